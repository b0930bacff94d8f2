"""Images with labels, boxes and masks: readers of data sets and of annotation files."""
