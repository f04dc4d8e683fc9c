"""Which rows are learnt from, which choose, and which judge: what was known at the training's date, cut by time.

    |<-- fit -->|<- gap: the delay ->|<- validation ->|<- test ->|<- too young: the delay ->| the training's date

A transaction younger than the delay has no label yet, which says nothing.  And whoever had trained at the beginning of
the validation would have known the labels of the rows before the gap, no others.

The validation chooses: the number of trees, the calibration, the thresholds.  The test has no part in any choice: what is
said of a model is said by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.tables import LABEL_COLUMNS, TRANSACTION_COLUMNS
from schemas.wire import EPOCH, microseconds
from training.errors import UnusablePast

Rows = npt.NDArray[np.bool_]

_MICROSECOND = timedelta(microseconds=1)
_SHARE_OF_VALIDATION = 0.3
_LONGEST_VALIDATION = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class KnownPast:
    """What of a past there was to know at a date."""

    transactions: pl.DataFrame
    labels: pl.DataFrame
    is_fraud: Rows
    """For each transaction: whether its newest label says so."""
    until: datetime
    goes_on: bool = False
    """Whether something happened or became known later."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which of the transactions are for what, by row; the others are too young, or in the gap."""

    fit: Rows
    validation: Rows
    test: Rows
    """The validation's own rows where these are too few to be divided."""
    fit_from: datetime
    validation_from: datetime
    validation_until: datetime
    test_from: datetime
    test_until: datetime

    @property
    def divided(self) -> bool:
        """Whether the test's rows are others than those that chose."""
        return self.test_from >= self.validation_until


def known_at(until: datetime | None, transactions: pl.DataFrame, labels: pl.DataFrame) -> KnownPast:
    """The past as it was known `until` then; None: as known at its last moment.

    Raises UnusablePast where columns are missing, nothing is left, or no fraud was known.
    """
    _require_columns("transactions", transactions, TRANSACTION_COLUMNS)
    _require_columns("labels", labels, LABEL_COLUMNS)
    if transactions.is_empty():
        raise UnusablePast("the table of transactions is empty; there is nothing to learn from")
    moments = [transactions["occurred_at"].max(), labels["known_at"].max()]
    ends = max(moment for moment in moments if isinstance(moment, datetime))
    until = until or ends
    seen = transactions.filter(pl.col("occurred_at") <= until)
    if seen.is_empty():
        raise UnusablePast(
            f"all {transactions.height} transactions are later than {until}, the training's date; "
            f"--train-until after the first, of {transactions['occurred_at'].min()!s}, would do"
        )
    heard = labels.filter(pl.col("known_at") <= until)
    is_fraud = known_frauds(seen, heard, until)
    if not is_fraud.any():
        later = bool(known_frauds(transactions, labels, ends).any())
        unmatched = f"; none of the {heard.height} labels belongs to a transaction" if heard.height else ""
        raise UnusablePast(
            f"one class only: of {seen.height} transactions none was known to be a fraud at {until}{unmatched}. "
            f"A past with labels that say is_fraud{', or a later --train-until,' * later} would do"
        )
    if is_fraud.all():
        raise UnusablePast(
            f"one class only: all {seen.height} transactions are frauds. A past with the genuine ones too would do"
        )
    return KnownPast(transactions=seen, labels=heard, is_fraud=is_fraud, until=until, goes_on=until < ends)


def known_frauds(transactions: pl.DataFrame, labels: pl.DataFrame, until: datetime) -> Rows:
    """For each transaction: whether the newest of its labels that were known `until` then says so."""
    newest = (
        labels.filter(pl.col("known_at") <= until)
        .sort("known_at", maintain_order=True)
        .unique(["account_id", "transaction_id"], keep="last", maintain_order=True)
        .select("account_id", "transaction_id", "is_fraud")
    )
    is_fraud: Rows = (
        transactions.select("account_id", "transaction_id")
        .join(newest, on=["account_id", "transaction_id"], how="left", maintain_order="left")["is_fraud"]
        .fill_null(value=False)
        .to_numpy()
    )
    return is_fraud


def split(past: KnownPast, accepted: Rows, *, delay: timedelta, validation: timedelta | None = None) -> Split:
    """Cut by time, leaving out what isn't `accepted`.  `validation`: how long it and the test are together.

    Raises UnusablePast where a part has no rows, no fraud or nothing but frauds.
    """
    time = past.transactions["occurred_at"].dt.epoch("us").to_numpy()
    first, mature = int(time.min()), mature_until(past, time, delay)
    span, gap = timedelta(microseconds=max(mature - first, 0)), delay
    if span <= gap:
        last = timedelta(microseconds=int(time.max()) - first)
        raise UnusablePast(
            f"nothing is mature enough: the transactions span {_days(last)}, and labels take {_days(delay)} to arrive, "
            "for the rows of the validation and once more for those before. A past that begins more than "
            f"{_days(2 * delay)} before {past.until}, the training's date, or a shorter --label-delay, would do"
        )
    length = validation or min((span - gap) * _SHARE_OF_VALIDATION, _LONGEST_VALIDATION)
    begins = mature - length // _MICROSECOND
    learnt = begins - gap // _MICROSECOND
    fit = accepted & (time < learnt)
    kept = accepted & (time >= begins) & (time <= mature)
    later = " or a later --train-until" * past.goes_on
    _require_both_classes(
        "to fit", past.is_fraud[fit], f"before {_moment(learnt)}", f"more history, a shorter --validation{later}"
    )
    between = f"from {_moment(begins)} to {_moment(mature)}"
    _require_both_classes("to validate", past.is_fraud[kept], between, f"a longer --validation{later}")
    chosen = choosing_ends(time[kept], past.is_fraud[kept], begins, mature)
    return Split(
        fit=fit,
        validation=kept if chosen is None else kept & (time < chosen),
        test=kept if chosen is None else kept & (time >= chosen),
        fit_from=EPOCH + timedelta(microseconds=int(time[fit].min())),
        validation_from=EPOCH + timedelta(microseconds=begins),
        validation_until=EPOCH + timedelta(microseconds=mature if chosen is None else chosen),
        test_from=EPOCH + timedelta(microseconds=begins if chosen is None else chosen),
        test_until=EPOCH + timedelta(microseconds=mature),
    )


def mature_until(past: KnownPast, time: npt.NDArray[np.int64], delay: timedelta) -> int:
    """Until when a transaction is old enough to have its label, in microseconds; no later than the last of them at `time` [n].

    A label may be known long after all of them: nothing occurred between.
    """
    return min(microseconds(past.until - delay), int(time.max()))


def choosing_ends(time: npt.NDArray[np.int64], is_fraud: Rows, begins: int, ends: int) -> int | None:
    """Until when the rows [n] from `begins` to `ends` choose, and from when on they judge; in microseconds.

    Half-way; where one half would lack frauds, or genuine ones, when half of the frauds have occurred.  None where that
    doesn't help: there are too few of them.
    """
    frauds = np.sort(time[is_fraud])
    for moment in ((begins + ends) // 2, int(frauds[frauds.size // 2])):
        before = time < moment
        if all(part.any() and not part.all() for part in (is_fraud[before], is_fraud[~before])):
            return moment
    return None


def _require_columns(table: str, frame: pl.DataFrame, columns: dict[str, pl.DataType | type[pl.DataType]]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UnusablePast(f"{table} has no column {', '.join(missing)}; a mapping says which of its columns is what")


def _require_both_classes(purpose: str, is_fraud: Rows, when: str, remedy: str) -> None:
    frauds = int(is_fraud.sum())
    if frauds in (0, is_fraud.size):
        raise UnusablePast(
            f"{is_fraud.size} mature rows {purpose}, {frauds} of them frauds: {remedy} would do (they occurred {when})"
        )


def _moment(micros: int) -> str:
    return f"{EPOCH + timedelta(microseconds=micros):%Y-%m-%d %H:%M}"


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.3g} days"
