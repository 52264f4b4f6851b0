"""Texts of unknown origin, before they become parts of file names, lines of lists and of terminals, or cells."""

import re
from collections.abc import Iterable

# Control characters, line breaks, what turns the direction of writing, and what no file can hold.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile("'*[=+@-]")
_LONGEST = 150  # bytes of a name that others are made of


def first_few(names: Iterable[object], most: int = 5) -> str:
    """For messages: the first names, and how many more there are."""
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def is_unprintable(text: str) -> bool:
    """Whether it holds control characters or line breaks."""
    return _UNPRINTABLE.search(text) is not None


def check_texts(what: str, texts: Iterable[object]) -> None:
    """Raises ValueError for the first that is no string or holds control characters or line breaks."""
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{what} {text!r:.100} is no text")
        if is_unprintable(text):
            raise ValueError(f"{what} {ascii(text):.100} holds a line break or a control character: rename it")


def check_names(what: str, names: Iterable[object]) -> None:
    """Raises ValueError for the first that cannot be part of a file name: paths are made of it."""
    for name in names:
        check_texts(what, [name])
        assert isinstance(name, str)
        if not name or name[0] == "." or set(name) & set("/\\") or len(name.encode()) > _LONGEST:
            raise ValueError(
                f"{what} {name!r:.100} cannot be part of a file name: it needs 1 to {_LONGEST} bytes, no dot at its start, no "
                "slash and no back-slash"
            )


def as_cell(value: object) -> object:
    """A value as spreadsheets may read it: text that they would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """What `as_cell` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text
