"""AdaPruner for Detectron2: learn which training images a detector can do without."""
__version__ = "0.1.0"
