"""The file that somebody else wrote, as a table: Parquet as it is, CSV as text."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Final

import polars as pl
from polars import selectors

from schemas.encodings import no_text, wide_encoding
from schemas.errors import WrongSettings
from schemas.header import names_of
from schemas.lines import WrongLines, require_even_lines

_PARQUET: Final = (".parquet", ".pq")
_CSV: Final = (".csv", ".tsv", ".txt", ".gz")
_PACKED: Final = (".zip", ".xlsx", ".xls", ".7z", ".bz2", ".xz", ".zst", ".ods")
_GZIP: Final = b"\x1f\x8b"


def is_parquet(file: Path) -> bool:
    """By its name.  Raises WrongSettings where that is of neither kind, or nothing is there."""
    if not file.is_file():
        raise WrongSettings(f"{file} does not exist" if not file.exists() else f"{file} is a folder, not a table")
    kind = file.suffix.lower()
    if kind not in _PARQUET + _CSV:
        packed = ": unpack it first, or save the sheet as CSV" if kind in _PACKED else ""
        raise WrongSettings(f"{file} is neither .parquet nor .csv (nor .tsv, .txt, .csv.gz){packed}")
    return kind in _PARQUET


@contextmanager
def unpacked(file: Path) -> Iterator[BufferedIOBase]:
    """The bytes of a CSV file, packed by gzip or not.  What goes wrong while they are read raises WrongSettings."""
    try:
        with file.open("rb") as plain:
            packed = plain.read(len(_GZIP)) == _GZIP
        with gzip.open(file) if packed else file.open("rb") as opened:
            yield opened
    except (OSError, EOFError, zlib.error) as error:
        raise WrongSettings(f"{file} can't be read: {error}") from error


def scan_table(file: Path, *, separator: str = ",", encoding: str = "utf-8") -> pl.LazyFrame:
    """The table and nothing read yet but the names of its columns.  Raises WrongSettings."""
    try:
        if is_parquet(file):
            scan = pl.scan_parquet(file, glob=False)
        else:
            # As text: a guess would take the zeros off 007, and stumble over the first id that is no number.
            text = _in_utf8(file, encoding)
            _require_even_lines(file, text, separator, encoding)
            scan = pl.scan_csv(
                text,
                separator=separator,
                infer_schema=False,
                glob=False,
                with_column_names=lambda found: _names(text, separator, found),
            )
        scan.collect_schema()
    except pl.exceptions.NoDataError as error:
        raise WrongSettings(f"{file} can't be read: it is empty") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise WrongSettings(f"{file} can't be read: {error}") from error
    return scan


def exactly(column: str) -> pl.Expr:
    """The column of exactly this name: to `pl.col`, `*` is all of them, and what stands in `^…$` a pattern."""
    return selectors.by_name(column).as_expr()


def _names(text: Path | BytesIO, separator: str, found: list[str]) -> list[str]:
    if isinstance(text, BytesIO):
        return names_of(BytesIO(text.getbuffer()), separator, found)
    with unpacked(text) as opened:
        return names_of(opened, separator, found)


def _in_utf8(file: Path, encoding: str) -> Path | BytesIO:
    """Polars reads UTF-8 and nothing else."""
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        return file
    try:
        with unpacked(file) as opened:
            content = opened.read()
            if (what := no_text(content)) is not None:
                raise WrongSettings(f"{file} can't be read: it is {what}")
            return BytesIO(content.decode(encoding).removeprefix("\ufeff").encode())
    except LookupError as error:
        raise WrongSettings(f"`encoding` {encoding!r} is none that Python knows, such as latin-1 or utf-16") from error
    except UnicodeError as error:
        wide = wide_encoding(content)
        instead = f'; encoding = "{wide}" in the mapping would read it' if wide else ""
        raise WrongSettings(f"{file} is not written in {encoding}: {error}{instead}") from error


_looked_at: dict[Path, tuple[object, ...]] = {}
"""Files of which the lines were found to be even, and what they were then: a command reads its table several times."""


def _require_even_lines(file: Path, text: Path | BytesIO, separator: str, encoding: str) -> None:
    if not separator.isascii():
        return
    state = file.stat()
    now = (state.st_mtime_ns, state.st_size, state.st_ino, separator, encoding)
    if _looked_at.get(file) == now:
        return
    try:
        if isinstance(text, BytesIO):
            require_even_lines(BytesIO(text.getbuffer()), separator, mapped=encoding)
        else:
            with unpacked(text) as opened:
                require_even_lines(opened, separator, mapped=encoding)
    except WrongLines as error:
        raise WrongSettings(f"{file} can't be read: {error}") from None
    _looked_at[file] = now
