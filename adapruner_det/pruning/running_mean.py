"""The mean of the epoch at hand and of the one before, in O(1) memory."""

import math


class RunningMean:
    """Sum and count of what was seen in this epoch, and the mean of the one before.

    Args:
        num_samples: N; a remnant of fewer than half of them does not replace a whole epoch.
    """

    def __init__(self, num_samples: int):
        self._enough = num_samples // 2
        self.sum, self.count = 0.0, 0
        self.previous = math.nan

    def add(self, total: float, count: int) -> None:
        """Adds `count` values that sum up to `total`."""
        self.sum += total
        self.count += count

    def next_epoch(self) -> None:
        """Starts over."""
        if self.count and (self.count >= self._enough or math.isnan(self.previous)):
            self.previous = self.sum / self.count
        self.sum, self.count = 0.0, 0

    def value(self) -> float:
        """Mean of the last whole epoch, which does not depend on the order of this one.

        Before there is one, the mean so far; NaN if nothing was seen.
        """
        if not math.isnan(self.previous):
            return self.previous
        return self.sum / self.count if self.count else math.nan

    def state_dict(self) -> dict:
        return {"sum": self.sum, "count": self.count, "previous": self.previous}

    def load_state_dict(self, state: dict) -> None:
        self.sum, self.count, self.previous = state["sum"], state["count"], state["previous"]
