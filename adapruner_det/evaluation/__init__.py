"""Average precision, accuracy, and the files that hold them."""
