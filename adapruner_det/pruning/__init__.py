"""The method: torch only, knows no data set and no Detectron2."""
from .adapruner import AdaPruner, Objective, RatioNotReachedError
from .selection import Selection

__all__ = ["AdaPruner", "Objective", "RatioNotReachedError", "Selection"]
