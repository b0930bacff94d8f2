"""Set-up, data, and the one-command run of the three experiments."""

from mi_common.process import quiet_interrupt

quiet_interrupt()
