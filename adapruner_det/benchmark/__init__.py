"""What pruning costs: time and memory of the mask, of a training step, and of the losses."""
