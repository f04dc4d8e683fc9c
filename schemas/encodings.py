"""How the text of a file is encoded, as far as its bytes tell, and what it is where it is no text."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Final, NamedTuple

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""The longer ones first: one of them begins as another."""
_OTHERS: Final = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook: save the sheet as CSV"),
    (b"PAR1", "a Parquet file: name it .parquet"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it first"),
    (b"BZh", "packed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "packed by xz: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"SQLite format 3", "an SQLite database: write the table as CSV"),
)
_WIDE: Final = {
    "utf-32-le": ((1, 2, 3), (0,)),
    "utf-32-be": ((0, 1, 2), (3,)),
    "utf-16-le": ((1, 3), (0, 2)),
    "utf-16-be": ((0, 2), (1, 3)),
}
"""Where among four bytes zeros are, and where none."""
_LOOKED_AT: Final = 1 << 14
_MANY, _FEW = 0.2, 0.02
"""Of the bytes at a place within each character: of digits and separators all but one byte are 0, of other text some."""


def no_text(head: bytes) -> str | None:
    """What a file is that begins with these bytes and is no CSV, with what would help; None: it may be one."""
    return next((what for mark, what in _OTHERS if head.startswith(mark)), None)


def wide_encoding(head: bytes) -> str | None:
    """The encoding in two or four bytes a character that a file is in which begins so; None: it is in none.

    >>> wide_encoding("id,amount\\n1,2\\n".encode("utf-16-le")), wide_encoding(b"id,amount\\n1,2\\n")
    ('utf-16-le', None)
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    some = head[: min(len(head), _LOOKED_AT) // 4 * 4]
    if not some:
        return None
    zeros = [some[at::4].count(0) / (len(some) // 4) for at in range(4)]
    return next(
        (
            name
            for name, (empty, told) in _WIDE.items()
            if min(zeros[at] for at in empty) > _MANY and max(zeros[at] for at in told) < _FEW
        ),
        None,
    )


class Mixed(NamedTuple):
    """Lines of a file with letters beyond ASCII."""

    utf8: int
    others: int
    first_other: int
    """The number of the first line that is no UTF-8, from 1; 0: there is none."""


def mixed(lines: Iterable[bytes]) -> Mixed:
    """How many lines are UTF-8, and how many are not."""
    utf8 = others = first = 0
    for number, line in enumerate(lines, 1):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            others, first = others + 1, first or number
        else:
            utf8 += 1
    return Mixed(utf8, others, first)


def narrow_encoding(content: Iterable[bytes]) -> str:
    """Of text that is no UTF-8: Windows' encoding for the west, or where it has no such letters the one it comes from."""
    undefined = bytes({0x81, 0x8D, 0x8F, 0x90, 0x9D})
    return "latin-1" if any(part.translate(None, undefined) != part for part in content) else "cp1252"
