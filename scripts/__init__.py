"""Set-up, data, and the one-command run of the three experiments."""

from common.process import quiet_interrupt

quiet_interrupt()
