"""Whether the lines of a CSV file are what they should be, before anybody reads a value of them.

A reader that is only fast fills a line that is too short with nothing, and reads on to the next quote where one was not
closed: a fraud's label may be lost so, or a thousand rows.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.encodings import mixed, narrow_encoding, no_text, wide_encoding

Ints = npt.NDArray[np.intp]

_PART: Final = 1 << 23
_LF, _CR, _QUOTE = 0x0A, 0x0D, 0x22
_SHOWN: Final = 60


@dataclass
class _Odd:
    """The first line with another number of fields than the header, and how many there are."""

    count: int = 0
    line: int = 0
    until: int = 0
    """The line that it ends on: another one where something quoted has a line's end in it."""
    fields: int = 0
    text: bytes = b""


class WrongLines(ValueError):
    """What is odd about the lines, where, and what would be right."""


def require_even_lines(opened: BufferedIOBase | BytesIO, separator: str, *, mapped: str) -> None:
    """Holds UTF-8 text with a header to the number of its fields.  `mapped`: the encoding that it is said to be in.

    Blank lines and lines of one field, such as a footer, are left to who reads them.  Raises WrongLines.
    """
    _Lines(separator, mapped).read(opened)


class _Lines:
    def __init__(self, separator: str, mapped: str) -> None:
        self._separator = separator
        self._mapped = mapped
        self._decode = getincrementaldecoder("utf-8")()
        self._header: int | None = None
        self._names = b""
        """The header itself, or its beginning."""
        self._odd = _Odd()
        self._rows = 0
        self._before = 0
        """Line ends before this part of the file."""
        self._inside = False
        self._carried = 0
        """Separators of the record that goes on from the part before."""
        self._within = 0
        """Those and the ones in quotes."""
        self._begins = 1
        """The line that it begins on."""
        self._head = b""
        self._returns = False

    def read(self, opened: BufferedIOBase | BytesIO) -> None:
        first = True
        while part := opened.read(_PART):
            if first:
                self._look_at_head(part)
                first = False
            self._look_at_bytes(part, opened)
            self._count(part)
        if self._head.strip():  # the last line, without an end
            self._finish(opened)
        self._tell()

    def _look_at_head(self, part: bytes) -> None:
        if what := no_text(part):
            raise WrongLines(f"it is {what}")
        if wide := wide_encoding(part):
            raise WrongLines(f'it is written in {wide}, not in {self._mapped}: say encoding = "{wide}" in the mapping')
        self._returns = part.count(b"\r") > 1 and b"\n" not in part

    def _look_at_bytes(self, part: bytes, opened: BufferedIOBase | BytesIO) -> None:
        if self._returns:
            raise WrongLines("its lines end with a carriage return alone, as on old Macs: write line feeds instead")
        if (at := part.find(b"\0")) >= 0:
            line = 1 + self._before + part.count(b"\n", 0, at)
            raise WrongLines(
                f"line {line} has a NUL byte: the file is damaged, or in another encoding than {self._mapped}"
            )
        try:
            self._decode.decode(part)
        except UnicodeDecodeError:
            opened.seek(0)
            found = mixed(opened)
            opened.seek(0)
            name = narrow_encoding(iter(lambda: opened.read(_PART), b""))
            others = f" ({found.utf8:,} other lines are UTF-8: two encodings are mixed)" if found.utf8 else ""
            raise WrongLines(
                f'line {found.first_other} is not written in utf-8{others}: encoding = "{name}" in the mapping would read it'
            ) from None

    def _count(self, part: bytes) -> None:
        data = np.frombuffer(part, np.uint8)
        ends: Ints = np.flatnonzero(data == _LF)
        separators: Any = data == ord(self._separator)
        everywhere: Ints = np.flatnonzero(separators)
        quotes = data == _QUOTE
        closing = ends
        if self._inside or quotes.any():
            inside = ((np.cumsum(quotes, dtype=np.uint8) + self._inside) & 1).astype(bool)
            closing = ends[~inside[ends]]
            separators &= ~inside
            self._inside = bool(inside[-1])
        places: Ints = np.flatnonzero(separators)
        if closing.size:
            upto = np.searchsorted(places, closing)
            counts = np.diff(upto, prepend=0)
            counts[0] += self._carried
            self._find_header(part, counts, closing)
            swallowed = self._swallowed(everywhere, closing, ends)
            self._look_at(part, counts, swallowed, closing, ends)
            self._carried = places.size - int(upto[-1])
            self._begins = 1 + self._before + int(np.searchsorted(ends, closing[-1], side="right"))
            self._head = part[int(closing[-1]) + 1 :][:_SHOWN]
        else:
            self._carried += places.size
            self._within += everywhere.size
            self._head = (self._head + part)[:_SHOWN]
        self._before += ends.size

    def _find_header(self, part: bytes, counts: Ints, closing: Ints) -> None:
        """The first line that is not blank."""
        if self._header is not None:
            return
        starts = np.concatenate([[0], closing[:-1] + 1])
        filled = (number for number in range(len(starts)) if part[starts[number] : closing[number]].strip())
        if (number := next(filled, None)) is not None:
            self._header = int(counts[number])
            self._names = ((self._head if number == 0 else b"") + part[starts[number] : closing[number]])[: _SHOWN + 1]
            self._rows -= number + 1  # neither is a row

    def _swallowed(self, everywhere: Ints, closing: Ints, ends: Ints) -> Ints:
        """Of each record that ends here, over how many lines it goes, if each of them has as many separators as a row."""
        upto, lines = np.searchsorted(everywhere, closing), np.searchsorted(ends, closing, side="right")
        separators, over = np.diff(upto, prepend=0), np.diff(lines, prepend=0)
        separators[0] += self._within
        over[0] += 1 + self._before - self._begins
        self._within = everywhere.size - int(upto[-1])
        rows: Ints = np.where((over > 1) & (separators == over * (self._header or 0)), over, 1)
        return rows

    def _look_at(self, part: bytes, counts: Ints, swallowed: Ints, closing: Ints, ends: Ints) -> None:
        self._rows += len(counts)
        odd = np.flatnonzero(((counts != self._header) & (counts != 0)) | ((swallowed > 1) & (counts > 0)))
        if not odd.size:
            return
        if not self._odd.count:
            number = int(odd[0])
            start = 0 if number == 0 else int(closing[number - 1]) + 1
            head = self._head if number == 0 else b""
            self._odd = _Odd(
                line=self._begins if number == 0 else 1 + self._before + int(np.searchsorted(ends, start)),
                until=1 + self._before + int(np.searchsorted(ends, closing[number])),
                fields=int(counts[number]) + 1,
                text=(head + part[start : int(closing[number])])[: _SHOWN + 1],
            )
        self._odd.count += odd.size

    def _finish(self, opened: BufferedIOBase | BytesIO) -> None:
        del opened
        if self._inside:
            return
        if self._header is None:
            self._header = self._carried
            return
        self._rows += 1
        if self._carried not in (0, self._header):
            if not self._odd.count:
                self._odd = _Odd(line=self._begins, until=self._begins, fields=self._carried + 1, text=self._head)
            self._odd.count += 1

    def _tell(self) -> None:
        odd = self._odd
        if self._inside and (not odd.count or odd.until == odd.line):
            raise WrongLines(
                f"line {self._begins} opens a quote that is never closed: {_shown(self._head)}; close it, or double a quote "
                "that is part of a text in quotes"
            )
        if not odd.count:
            return
        header = (self._header or 0) + 1
        many = f"; {odd.count:,} of {self._rows:,} lines are so" if odd.count > 1 else ""
        if odd.until > odd.line:
            raise WrongLines(
                f"line {odd.line} opens a quote that is closed only on line {odd.until}, so that these lines are one row "
                f"of {odd.fields} fields (the header has {header}): {_shown(odd.text)}{many}"
            )
        kind = "too many" if odd.fields > header else "too few"
        hint = f"a text with {self._separator!r} in it stands in quotes"
        if header == 1:
            hint = f"is the separator {self._separator!r}? `separator` in the mapping says which"
        elif kind == "too few":
            hint = "was the line cut off?"
        if odd.count == self._rows > 1 and self._names:
            hint += f"; is {_shown(self._names)} the header? Lines before it must go"
        raise WrongLines(
            f"line {odd.line} has {odd.fields} fields, {kind}: the header has {header}: {_shown(odd.text)}{many}; {hint}"
        )


def _shown(text: bytes) -> str:
    shown = repr(text.decode("utf-8", errors="replace").rstrip("\r\n"))
    return shown if len(text) <= _SHOWN else f"{shown[:_SHOWN]}…"
