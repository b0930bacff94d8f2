"""Class activation maps, their contrasts and gradient-based maps, as functions of tensors."""
