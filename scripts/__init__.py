"""Set-up, data, reproduction, the rows and pages that show the evidence, reports, and speed."""

from mi_common.process import quiet_interrupt

quiet_interrupt()
