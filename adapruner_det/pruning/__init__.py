"""The method: it knows no data set and no Detectron2. The mask that moves while a model trains needs torch alone."""

from .adapruner import AdaPruner, Objective, RatioNotReachedError
from .selection import Selection

__all__ = ["AdaPruner", "Objective", "RatioNotReachedError", "Selection"]
