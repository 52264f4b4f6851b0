"""What is wrong with a data set: all problems in one report, instead of the first one alone."""
from dataclasses import dataclass
from typing import List, Optional, Sequence

ON_INVALID = ("error", "skip_objects", "skip_images")
LOGGED_LINES = 5  # so many problems are named in a warning

_REPORTED_LINES = 50


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a dataset.

    Attributes:
        file: the file at fault.
        message: what is wrong with it.
        object_number: which `<object>` of the file, counted from 1; None if it is the whole file.
        class_name: that object's class, where it has one.
    """

    file: str
    message: str
    object_number: Optional[int] = None
    class_name: Optional[str] = None

    def __str__(self) -> str:
        if self.object_number is None:
            return f"{self.file}: {self.message}"
        name = self.class_name or "no class"
        return f"{self.file}: object {self.object_number} ({name}): {self.message}"


class InvalidDatasetError(ValueError):
    """A dataset has problems.

    Attributes:
        problems: all of them; the message shows the first 50.
    """

    def __init__(self, heading: str, problems: Sequence[Problem], way_out: str):
        self.problems = list(problems)
        lines = first_lines(self.problems, _REPORTED_LINES)
        super().__init__("\n".join([heading, *lines, way_out]))


def check_on_invalid(on_invalid: str) -> None:
    """Raises ValueError unless `on_invalid` is one of `ON_INVALID`."""
    if on_invalid not in ON_INVALID:
        raise ValueError(f"on_invalid is {on_invalid!r}, not one of {', '.join(ON_INVALID)}")


def first_lines(items: Sequence[object], count: int) -> List[str]:
    """The first `count` items, a line each, and how many more there are."""
    lines = [f"  {item}" for item in items[:count]]
    if len(items) > count:
        lines.append(f"  ... and {len(items) - count} more")
    return lines
