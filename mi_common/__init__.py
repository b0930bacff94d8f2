"""What the three experiments share: the formula, the training loop, run records and readers."""

import mi_common.process  # noqa: F401 - first: a worker watches its parent before its slow imports
