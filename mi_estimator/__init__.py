"""How many nats do features carry about a label? A classifier's logits answer."""
