"""When pruning starts and how alpha rises (Sec. 3 of Yang et al. 2023)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Warm-up, then alpha from its first to its last value, changed once an epoch.

    Attributes:
        total_steps: steps of the whole run.
        warmup_steps: steps before pruning starts; the model trains on everything, the mask is fixed.
        alpha_start, alpha_end: scale of the sigmoid in the first and in the last epoch of pruning.
    """

    total_steps: int
    warmup_steps: int = 0
    alpha_start: float = 0.1
    alpha_end: float = 5.0

    def __post_init__(self):
        if not 0 <= self.warmup_steps < self.total_steps:
            raise ValueError(
                f"warm-up of {self.warmup_steps} steps leaves nothing of {self.total_steps} steps "
                "for pruning: make the run longer or the warm-up shorter"
            )
        if not 0 < self.alpha_start <= self.alpha_end:
            raise ValueError(f"alpha has to rise from above 0, not from {self.alpha_start} to {self.alpha_end}")

    def alpha(self, step: int, steps_per_epoch: int) -> float:
        """Alpha of the epoch that starts at `step`; the last whole epoch gets `alpha_end`."""
        until_last_epoch = self.total_steps - self.warmup_steps - steps_per_epoch
        progress = (step - self.warmup_steps) / until_last_epoch if until_last_epoch > 0 else 1.0
        return self.alpha_start + (self.alpha_end - self.alpha_start) * min(1.0, progress)
