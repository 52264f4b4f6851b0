"""Image classification: data sets, label noise, and what pruning needs of them."""
