"""The names of a CSV file's columns, as the live messages of its attributes would have them."""

from __future__ import annotations

import csv
import re
from collections.abc import Container, Sequence
from io import BufferedIOBase, BytesIO, StringIO
from typing import Final

from schemas.numerals import BLANKS

_MOST_BYTES: Final = 1 << 20
_REPEATED: Final = re.compile(r"(.*)_duplicated_\d+", re.DOTALL)


def names_of(opened: BufferedIOBase | BytesIO, separator: str, found: Sequence[str]) -> list[str]:
    """Those that the first line has, read as CSV says: a doubled quote is one, and blanks around a name are none of it.

    `found` are those that polars made of it; they stay where the line can't be read.  A name that comes again gets
    `_duplicated_0` and so on behind it.
    """
    text = StringIO(opened.read(_MOST_BYTES).decode("utf-8-sig", errors="replace"), newline="")
    try:
        raw = next((row for row in csv.reader(text, delimiter=separator) if row), [])
    except (csv.Error, TypeError, ValueError):
        raw = []
    if len(raw) != len(found):
        return list(found)
    names: dict[str, None] = {}
    for name in (each.strip(BLANKS) for each in raw):
        again, alone = 0, name
        while alone in names:
            again, alone = again + 1, f"{name}_duplicated_{again}"
        names[alone] = None
    return list(names)


def repeats(name: str, names: Container[str]) -> str | None:
    """The name that a column has which is another's too; None: it has one of its own."""
    found = _REPEATED.fullmatch(name)
    return found[1] if found and found[1] in names else None
