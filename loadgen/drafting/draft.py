"""A drafted mapping: all that was guessed of a table, tried on it, and written down as TOML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from loadgen.drafting.columns import Column, Kind, Table, look
from loadgen.drafting.guessing import Guess, Guesses, Missing, add_numbers, guess
from loadgen.drafting.leakage import suspicion
from loadgen.drafting.occurring import counts_time
from loadgen.drafting.toml import comment, quoted
from schemas.errors import WrongSettings
from schemas.foreign import is_parquet
from schemas.header import repeats
from schemas.ids import too_large
from schemas.mapping import Rejected, TableMapping, read_past

_EACH_ANOTHER: Final = 0.9
"""A text column with so many different values for each row has nothing to learn from."""
_DELAYS: Final = (("7d", 7), ("3d", 3), ("1d", 1), ("12h", 1 / 2), ("6h", 1 / 4), ("1h", 1 / 24), ("10m", 1 / 144))
_PERSONAL: Final = frozenset(
    {"email", "phone", "street", "address", "dob", "birth", "ssn", "firstname", "lastname", "surname"}
)


@dataclass(frozen=True, kw_only=True)
class Left:
    """A column that no field uses."""

    column: str
    why: str
    suspicious: bool = False
    """It may give the answer away."""
    odd: str = ""
    """Of an attribute: what somebody should look at."""

    @property
    def check(self) -> str:
        """What is odd, as words behind why."""
        return f"; check: {self.odd}" if self.odd else ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The whole table, read by the draft."""

    transactions: int = 0
    rejected: int = 0
    """Rows."""
    labels_left_out: int = 0
    reasons: dict[str, int]
    examples: Sequence[str] = ()
    labels: int = 0
    first: datetime | None = None
    last: datetime | None = None
    error: str | None = None
    """Why nothing could be read."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is written, and told."""

    file: Path
    rows: int
    sampled: int
    guesses: Sequence[Guess]
    missing: Sequence[Missing]
    attributes: Sequence[Left]
    drop: Sequence[Left]
    trial: Trial | None
    """None: something needed is missing."""
    toml: str

    @property
    def complete(self) -> bool:
        """Whether it reads transactions as it is."""
        return self.trial is not None and self.trial.error is None and self.trial.transactions > 0


def draft(file: Path) -> Draft:
    """Raises WrongSettings where `file` is no table, or has no rows."""
    table = look(file)
    if not table.sampled:
        raise WrongSettings(f"{file} has no rows: names of columns alone are nothing to draft a mapping from")
    guesses = guess(table)
    attributes, drop = _left(table, guesses)
    _numbers(table, guesses, {each.column for each in attributes})
    for key, value, plain in (("separator", table.separator, ","), ("encoding", table.encoding, "utf-8")):
        if value != plain:
            odd = table.odd_encoding if key == "encoding" else ""
            guesses.add(Guess(key=key, value=quoted(value), why=odd or "so the file is written", sure=not odd))
    if "transaction.transaction_id" not in guesses.found:
        stem = "".join(each for each in file.stem if each.isascii() and (each.isalnum() or each in "-_"))[:40] or "row"
        guesses.add(
            Guess(
                key="transaction.transaction_id",
                value=f"{{ pattern = {quoted(stem + '-{#}')} }}",
                why="no column names each transaction: the row's number does, and holds for this file only",
                sure=False,
            )
        )
    trial = None
    if not any(each.needed for each in guesses.missing):
        trial = _try(file, _written(file, table, guesses, attributes, drop))
        _label_delay(guesses, trial)
    return Draft(
        file=file,
        rows=table.rows,
        sampled=table.sampled,
        guesses=list(guesses.found.values()),
        missing=guesses.missing,
        attributes=attributes,
        drop=drop,
        trial=trial,
        toml=_written(file, table, guesses, attributes, drop),
    )


def _numbers(table: Table, guesses: Guesses, attributes: set[str]) -> None:
    degrees = [guesses.found.get(f"transaction.{name}") for name in ("latitude", "longitude", "utc_offset")]
    asked = {name for each in degrees if each is not None for name in each.columns}
    if not is_parquet(table.file):  # whose text is text
        asked |= attributes
    add_numbers([column for column in table.columns if column.name in asked], guesses)


def _left(table: Table, guesses: Guesses) -> tuple[list[Left], list[Left]]:
    """Attributes, and what must not be one."""
    used = guesses.used()
    fraud = None if guesses.fraud is None else guesses.fraud.to_numpy().astype(np.bool_)
    attributes, drop = [], []
    for column in table.columns:
        if column.name in used:
            continue
        if fraud is not None and (why := suspicion(column, fraud)):
            drop.append(Left(column=column.name, why=why, suspicious=True))
        elif why := _no_name(column, table) or _useless(column):
            drop.append(Left(column=column.name, why=why))
        else:
            odd = "" if is_parquet(table.file) else _hardly_text(column)
            attributes.append(Left(column=column.name, why=column.described(), odd=odd))
    return attributes, drop


def _hardly_text(column: Column) -> str:
    """What is said of a column of a CSV file that would be numbers but for a few values; empty of any other."""
    if column.kind is not Kind.NUMBER:
        return ""
    odd = column.present.filter(column.numbers.filter(~column.empty).is_null())
    if not len(odd):
        return ""
    return (
        f"{len(odd):,} of {len(column.present):,} values, such as {str(odd[0])[:40]!r}, are no numbers, so that all of it is "
        "text, of which each value is learnt for itself; where they say that nothing is known, name them in `missing`"
    )


def _no_name(column: Column, table: Table) -> str | None:
    """Why no message can carry it under its name; None: one can."""
    if not column.name:
        return "it has no name, so that no message can carry it"
    if (twice := repeats(column.name, [each.name for each in table.columns])) is not None:
        return f"another column is called {twice!r} too, and a message carries one of a name"
    return None


def _useless(column: Column) -> str | None:  # noqa: PLR0911 - a table, read top to bottom
    """Why nothing is to be learnt from it; None: perhaps something is."""
    if column.kind is Kind.NOTHING:
        return "empty in all rows looked at"
    if column.kind is Kind.OTHER:
        return f"{column.type}: a message carries numbers, booleans and text"
    if column.whole and too_large(column.present):
        return (
            "whole numbers that went through a float: digits are lost, and what differed may be one; write them as text"
        )
    if column.distinct == 1 and not column.missing:
        return f"the same in all rows looked at: {str(column.present[0])[:40]!r}"
    if column.kind in (Kind.TIME, Kind.CLOCK):
        return "another time, which as text says nothing to a model"
    if counts_time(column):
        return "the time once more"
    if column.whole and column.distinct == len(column.values) > 1 and column.numbers.is_sorted():
        return "it grows from row to row: the row's number, or the time once more"
    if word := next((word for word in column.words if word in _PERSONAL), None):
        return f"{word!r} in its name: about a person, and nothing to judge a payment by"
    if column.kind is Kind.TEXT and len(column.present) > 20 and column.distinct >= _EACH_ANOTHER * len(column.present):
        return "nearly each row has another"
    return None


def _try(file: Path, toml: str) -> Trial:
    rejected: list[Rejected] = []
    try:
        mapping = msgspec.structs.replace(msgspec.toml.decode(toml, type=TableMapping), origin="the draft")
        transactions, labels = read_past(file, mapping, on_rejected=rejected.append)
    except (WrongSettings, msgspec.DecodeError) as error:
        return Trial(reasons={}, error=str(error))
    occurred = transactions["occurred_at"]
    first, last = occurred.min(), occurred.max()
    return Trial(
        transactions=transactions.height,
        rejected=sum(each.count for each in rejected if not each.of_labels),
        labels_left_out=sum(each.count for each in rejected if each.of_labels),
        reasons={reason: count for each in rejected for reason, count in each.reasons.items()},
        examples=[example for each in rejected for example in each.examples],
        labels=labels.height,
        first=first if isinstance(first, datetime) else None,
        last=last if isinstance(last, datetime) else None,
    )


def _label_delay(guesses: Guesses, trial: Trial) -> None:
    """Such that something is left to learn from: training wants a past of more than twice the delay."""
    if (
        "label.is_fraud" not in guesses.found
        or "label.known_at" in guesses.found
        or trial.first is None
        or trial.last is None
    ):
        return
    span = (trial.last - trial.first) / timedelta(days=1)
    delay = next((text for text, days in _DELAYS if days <= span / 4), "0s")
    shorter = "" if delay == "7d" else f"; a week is usual, and the table spans {span:.1f} days only"
    guesses.add(
        Guess(
            key="label_delay", value=quoted(delay), why=f"no column says when a fraud became known{shorter}", sure=False
        )
    )


_TOP: Final = ("fraud_values", "label_delay")
_BOTTOM: Final = ("separator", "encoding")
_SECTIONS: Final = {
    "transaction": (
        "transaction_id", "account_id", "counterparty_id", "amount", "currency", "occurred_at", "utc_offset", "channel",
        "category", "country", "latitude", "longitude", "device_id", "ip",
    ),
    "amount": ("unit", "decimal", "thousands", "sign", "direction", "debits"),
    "numbers": ("decimal", "thousands"),
    "time": ("format", "zone", "start", "step"),
    "label": ("is_fraud", "known_at"),
}  # fmt: skip


def _written(file: Path, table: Table, guesses: Guesses, attributes: Sequence[Left], drop: Sequence[Left]) -> str:
    looked = f"{table.sampled:,} of {table.rows:,} rows"
    lines = [
        comment(
            f"A draft, by `loadgen mapping {file.name}`, which looked at {looked}.  Look at each line, and above all"
        ),
        comment("at those that say «check».  docs/mapping.md has what each key means."),
    ]
    lines += [_line(key, guesses.found[key]) for key in _TOP if key in guesses.found]
    lines += _list("attributes", attributes) + _list("drop", drop)
    lines += [_line(key, guesses.found[key]) for key in _BOTTOM if key in guesses.found]
    for section, fields in _SECTIONS.items():
        found = {name: guesses.found[key] for name in fields if (key := f"{section}.{name}") in guesses.found}
        absent = [each for each in guesses.missing if each.key.startswith(f"{section}.")]
        if not found and not absent:
            continue
        # A section without a line would still be a section, which wants its fields.
        lines += ["", f"[{section}]" if found else f"# [{section}]"]
        lines += [_line(name, each) for name, each in found.items()]
        for each in absent:
            key = each.key.removeprefix(f"{section}.")
            lines.append(f'# {key} = "…"  {comment(("NEEDED, " if each.needed else "") + "not found: " + each.why)}')
    return "\n".join(lines) + "\n"


def _line(key: str, each: Guess) -> str:
    return f"{key} = {each.value}  {comment(('' if each.sure else 'check: ') + each.why)}"


def _list(key: str, columns: Sequence[Left]) -> list[str]:
    if not columns:
        return []
    entries = [
        f"    {quoted(each.column)},  {comment(('SUSPICIOUS: ' if each.suspicious else '') + each.why + each.check)}"
        for each in columns
    ]
    return [f"{key} = [", *entries, "]"]
