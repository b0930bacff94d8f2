"""How many nats do features carry about a label? A classifier's logits answer."""

from mi_common.process import quiet_interrupt

quiet_interrupt()
