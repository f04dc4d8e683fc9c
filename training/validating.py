"""What is wrong or odd about a past, before anything is learnt from it.

What can't be learnt from, or would teach what no worker can know, is refused; what is only odd is said.  A label is taken
here as it stands at the past's end: what a column gives away it gives away at any date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.absent import MISSING
from schemas.currencies import Rates
from schemas.ids import floats_among, was_float
from schemas.mapping import WAS_FLOAT, Rejected
from schemas.tables import LABEL_COLUMNS, TRANSACTION_COLUMNS
from schemas.wire import EARLIEST, EPOCH, LATEST, MAX_AMOUNT
from training.attributes import choose
from training.errors import UnusablePast
from training.prequential import require_classes
from training.replay import no_rate
from training.settings import TrainingSettings
from training.split import known_at, split

Rows = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

IDS = ("transaction_id", "account_id", "counterparty_id", "device_id")

_LOST = (
    "its last digits may be lost, and ids that differed may have become one; messages have the whole id, and would be taken "
    "for somebody else's.  Write ids as text or as whole numbers"
)
_TELLS_ALL = 0.99
"""The area under the ROC curve from which on a single column is too good to be known in time."""
_ENOUGH = 10
"""Frauds, below which a column that fits them fits by chance."""
_MOST_FRAUDS, _MOST_GENUINE = 50_000, 150_000
"""Rows that columns are compared with the labels on; the error of an area is far below a hundredth."""
_MOST_VALUES = 1_000
_A_STATUS = 50
"""Values of a column, at most, that may say how a payment ended.  Of more, as of devices, some are rightly of frauds only."""
_WORTH_SAYING = 0.05
"""Of the frauds: a value of fewer of them is left to the model."""
_FEW_LABELS, _MANY_FRAUDS, _RARE_FRAUDS = 20, 0.3, 0.0001
_SPARSE = 0.5
_LATE, _MOST_LATE = timedelta(days=1), 0.05
_PARTS = 10
_BUSY_DAY = 20

_FEW_INSTANTS, _SHARED = 100, 20
_NOBODY = (
    "none", "null", "nil", "nan", "-nan", "na", "n/a", "n.a.", "nat", "#n/a", "#n/d", "#ref!", "#value!", "inf", "infinity",
    "undefined", "unknown", "missing", "empty", "(empty)", "<empty>", "void", "anonymous", "not available", "unbekannt",
    "inconnu", "desconocido", "sconosciuto", "desconhecido", "onbekend",
)  # fmt: skip
"""Ids that name nobody, in small letters.  Some may be names all the same, so that they are only odd."""
_ACCOUNTS, _MUCH, _TIMES = 20, 0.05, 3
"""Where there are so many accounts, one is odd that has so much of all rows, and so many times those of the one in the middle."""
_YEAR = 31_556_952_000_000
"""Microseconds."""
_SHOWN = 5


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong or odd."""

    about: str
    """A column, or what of the past it is about."""
    says: str
    """What, how much of it, and what would be right."""

    def __str__(self) -> str:
        return f"{self.about}: {self.says}"


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What there is to say of a past."""

    transactions: int
    labels: int
    frauds: int
    """Transactions whose newest label says so."""
    refused: tuple[Finding, ...]
    odd: tuple[Finding, ...]

    def require_usable(self) -> None:
        """Raises UnusablePast, naming all that was refused."""
        if self.refused:
            raise UnusablePast("; ".join(map(str, self.refused)))


@dataclass
class _Notes:
    refused: list[Finding] = field(default_factory=list)
    odd: list[Finding] = field(default_factory=list)

    def refuse(self, about: str, says: str) -> None:
        self.refused.append(Finding(about=about, says=says))

    def mention(self, about: str, says: str) -> None:
        self.odd.append(Finding(about=about, says=says))


def validate(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    attributes: Sequence[str] | None = None,
    trusted: Sequence[str] = (),
    rejected: Sequence[Rejected] = (),
    settings: TrainingSettings | None = None,
    rates: Rates | None = None,
    of_a_log: bool = False,
) -> Validation:
    """What is wrong or odd about a past, as schemas.tables has it.

    With `settings`, whether they leave rows of both kinds to fit and to judge by; with `rates`, whether each currency has one:
    whatever a training by them would refuse.
    `attributes`: the columns that are to be learnt from; None: all there are.  `trusted` of them may tell frauds alone.
    `rejected`: rows that the mapping could make no transactions of.  `of_a_log`: an archive of it, in which a transaction may
    stand several times, and long after others that occurred later; what a worker takes for a duplicate is not learnt from.
    Raises UnusablePast where an attribute is asked for that isn't there.
    """
    notes = _Notes()
    for one in rejected:
        _look_at_rejected(one, notes)
    is_fraud = np.zeros(transactions.height, bool)
    if _has_its_columns("transactions", transactions, TRANSACTION_COLUMNS, notes) & _has_its_columns(
        "labels", labels, LABEL_COLUMNS, notes
    ):
        if transactions.is_empty() and any(one.count == one.rows for one in rejected):
            pass  # said already, and why
        elif transactions.is_empty():
            notes.refuse("transactions", "the table of transactions is empty; there is nothing to learn from")
        else:
            _look_at_values(transactions, notes)
            _look_at_ids(transactions, labels, notes, of_a_log=of_a_log)
            _look_at_times(transactions, notes, of_a_log=of_a_log)
            is_fraud = _look_at_labels(transactions, labels, notes)
            _look_for_leaks(transactions, is_fraud, attributes, trusted, notes)
            if rates is not None:
                _look_for_rates(transactions, rates, notes)
            if settings is not None and not notes.refused:
                _look_at_dates(transactions, labels, settings, notes)
    return Validation(
        transactions=transactions.height,
        labels=labels.height,
        frauds=int(is_fraud.sum()),
        refused=tuple(notes.refused),
        odd=tuple(notes.odd),
    )


def _look_at_rejected(rejected: Rejected, notes: _Notes) -> None:
    if rejected.of_labels or rejected.left_out:
        _look_at_lost(rejected, notes)
        return
    others = {reason: count for reason, count in rejected.reasons.items() if not reason.endswith(WAS_FLOAT)}
    for reason, count in rejected.reasons.items():
        if reason.endswith(WAS_FLOAT):
            first = next((each for each in rejected.examples if reason in each), reason).replace(f" {reason}", "")
            says = f"{_of(count, rejected.rows)} ids are floats, such as that of {first}: {_LOST}"
            notes.refuse(reason.split(" ", 1)[0], says)
    if not others:
        return
    total = sum(others.values())
    tell = notes.refuse if total > _SPARSE * rejected.rows else notes.mention
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in others.items())
    first = next((each for each in rejected.examples if not each.count(WAS_FLOAT)), rejected.examples[0])
    tell(
        rejected.table,
        f"{_of(total, rejected.rows)} rows can't be transactions: {reasons}; the first: {first}{_hint(rejected)}",
    )


def _look_at_lost(rejected: Rejected, notes: _Notes) -> None:
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in rejected.reasons.items())
    count, first = _of(rejected.count, rejected.rows), rejected.examples[0]
    about = rejected.table if rejected.left_out else "known_at"
    notes.mention(about, f"{count} {rejected.what}: {reasons}; the first: {first}{_hint(rejected)}")


def _hint(rejected: Rejected) -> str:
    return f"; {rejected.hint}" if rejected.hint else ""


def _has_its_columns(
    table: str, frame: pl.DataFrame, columns: dict[str, pl.DataType | type[pl.DataType]], notes: _Notes
) -> bool:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        notes.refuse(table, f"{table} has no column {', '.join(missing)}; a mapping says which of its columns is what")
    other = [name for name, kind in columns.items() if name in frame.columns and frame.schema[name] != kind]
    for name in other:
        notes.refuse(name, f"it is {frame.schema[name]} in the table of {table}; {columns[name]} would be right")
    return not missing and not other


def _look_at_values(transactions: pl.DataFrame, notes: _Notes) -> None:
    rows = transactions.height
    amount, latitude, longitude = pl.col("amount"), pl.col("latitude"), pl.col("longitude")
    counted = transactions.select(
        *(
            pl.col(name).null_count().alias(f"no {name}")
            for name in ("transaction_id", "account_id", "amount", "currency", "occurred_at", "utc_offset")
        ),
        (~amount.is_between(0, MAX_AMOUNT)).sum().alias("amount"),
        (~latitude.is_between(-90, 90)).sum().alias("latitude"),
        (~longitude.is_between(-180, 180)).sum().alias("longitude"),
        (~pl.col("currency").str.contains("^[A-Z]{3}$")).sum().alias("currency"),
        (amount == 0).sum().alias("nothing"),
        ((latitude == 0) & (longitude == 0)).sum().alias("nowhere"),
    ).row(0, named=True)
    for name, count in counted.items():
        if count and name.startswith("no "):
            notes.refuse(name.removeprefix("no "), f"it is missing in {_of(count, rows)} rows; each needs one")
    right = {
        "amount": f"whole minor units from 0 to {MAX_AMOUNT}",
        "latitude": "degrees from -90 to 90",
        "longitude": "degrees from -180 to 180",
        "currency": "three capital letters (ISO 4217)",
    }
    for name, rule in right.items():
        if counted[name]:
            notes.refuse(name, f"{_of(counted[name], rows)} are out of range; {rule} would be right")
    if counted["nothing"] > _SPARSE * rows:
        notes.mention("amount", f"{_of(counted['nothing'], rows)} are 0: is it the right column, and the right unit?")
    if counted["nowhere"]:
        notes.mention(
            "latitude", f"{_of(counted['nowhere'], rows)} places are 0, 0, in the ocean: leave unknown ones empty"
        )
    gaps = transactions.null_count().row(0, named=True)
    sparse = [name for name, count in gaps.items() if _SPARSE * rows < count < rows]
    if sparse:
        notes.mention("missing values", f"in more than half of the rows there is no {_listed(sparse)}")


def _look_at_ids(transactions: pl.DataFrame, labels: pl.DataFrame, notes: _Notes, *, of_a_log: bool) -> None:
    rows = transactions.height
    for name in IDS:
        floats = floats_among(transactions[name])
        if len(floats):
            notes.refuse(name, f"{_of(len(floats), rows)} ids are floats, such as {floats[0]!r}: {_LOST}")
        _look_for_words(name, transactions[name], notes)
    for name in ("label_id", *IDS):
        if name == "label_id":
            floats = floats_among(labels[name])
        else:  # 4E15 was looked at above: of a few labels, most may look so by chance
            floats = (
                labels.filter(was_float(pl.col(name)))[name] if name in labels.columns else labels["label_id"].head(0)
            )
        if len(floats) and not any(each.about == name for each in notes.refused):
            notes.refuse(
                name, f"{_of(len(floats), labels.height)} ids of the labels are floats, such as {floats[0]!r}: {_LOST}"
            )
    different = transactions["transaction_id"].hash().n_unique()
    if different <= _SPARSE * rows and not of_a_log:
        notes.refuse(
            "transaction_id",
            f"{rows:,} rows share {different:,} ids: a transaction has one of its own; is it the right column?",
        )
    elif different < rows:
        notes.mention(
            "transaction_id",
            f"{_of(rows - different, rows)} rows repeat the id of another: of an account's, only the first is learnt from",
        )
    if rows > 1 and transactions["account_id"].hash().n_unique() == rows:
        notes.mention("account_id", "no account pays twice: there are no habits to learn")


def _look_for_words(name: str, ids: pl.Series, notes: _Notes) -> None:
    """Ids that say nobody: all whose account is `nan` would be one account."""
    nobody = ids.filter(
        (ids.is_in(MISSING) | ids.str.strip_chars().str.to_lowercase().is_in(_NOBODY)).fill_null(value=False)
    )
    if len(nobody):
        notes.mention(
            name,
            f"{_of(len(nobody), len(ids))} are {nobody[0]!r}, which seems to say that there is none: leave it empty, or "
            "name the word in `missing` of the mapping",
        )
    elif name == "account_id":
        _look_for_one_that_is_many(ids, notes)
    padded = ids.filter((ids.str.strip_chars() != ids).fill_null(value=False))
    if len(padded):
        notes.mention(
            name,
            f"{_of(len(padded), len(ids))} begin or end with a blank, such as {padded[0]!r}: messages without it would be "
            "somebody else's",
        )


def _look_for_one_that_is_many(ids: pl.Series, notes: _Notes) -> None:
    """An account that stands for all whose account isn't known: 0, -1, 99999999 or a word that no list has."""
    rows = ids.drop_nulls().value_counts(sort=True)
    if rows.height < _ACCOUNTS:
        return
    account, most = rows.row(0)
    if most > _MUCH * len(ids) and most > _TIMES * float(rows["count"].median() or 0):  # type: ignore[arg-type]  # of counts
        notes.mention(
            "account_id",
            f"{_of(most, len(ids))} rows are of {account!r}: is it one account?  Where it says that there is none, name it in "
            "`missing` of the mapping",
        )


def _look_at_times(transactions: pl.DataFrame, notes: _Notes, *, of_a_log: bool) -> None:
    rows = transactions.height
    at = transactions["occurred_at"].drop_nulls()
    if at.is_empty():
        return
    micros = at.dt.epoch("us")
    inside = at.is_between(EARLIEST, LATEST, closed="left")
    if not inside.all():
        notes.refuse(
            "occurred_at",
            f"the times go from {_date(micros.min())} to {_date(micros.max())}: are they seconds, or milliseconds?  "
            "`time.format` in the mapping says how they are written",
        )
        return
    first, last = at.min(), at.max()
    assert isinstance(first, datetime)  # there are some
    assert isinstance(last, datetime)
    backwards = int((at.cum_max() - at > _LATE).sum())
    if backwards > _MOST_LATE * rows and not of_a_log:
        notes.refuse(
            "occurred_at",
            f"times go backwards: {_of(backwards, rows)} rows are more than a day older than one before them.  Rows stand "
            "in the order of the log; sort them by occurred_at",
        )
    elif backwards:
        notes.mention(
            "occurred_at", f"{_of(backwards, rows)} rows came more than a day late: older than one before them"
        )
    by_day = at.dt.date().value_counts()
    days = (last.date() - first.date()).days + 1
    if by_day.height < days and rows / by_day.height >= _BUSY_DAY:
        there = set(by_day["occurred_at"])
        empty = [day for day in _days(first.date(), days) if day not in there]
        notes.mention(
            "occurred_at", f"on {_of(len(empty), days)} days there is not one transaction: {_listed(map(str, empty))}"
        )
    at_midnight = int((at.dt.time() == datetime.min.time()).sum())
    if at_midnight > _SPARSE * rows and by_day.height > 1:
        notes.mention(
            "occurred_at",
            f"{_of(at_midnight, rows)} are at midnight sharp: without the time of day its features are empty",
        )

        return
    different = at.n_unique()
    if 1 < different <= _FEW_INSTANTS and rows >= _SHARED * different:
        notes.mention(
            "occurred_at",
            f"{rows:,} rows share {different} instants from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}: does what they "
            'count begin again, as an hour of the day does?  occurred_at = { day = "…", hour = "…" } in the mapping takes both',
        )


def _date(micros: object) -> str:
    """Of microseconds since 1970, also where no calendar of Python's goes so far."""
    assert isinstance(micros, int)
    try:
        return (EPOCH + timedelta(microseconds=micros)).date().isoformat()
    except OverflowError:
        return f"the year {1970 + micros // _YEAR:,}"


def _look_at_labels(transactions: pl.DataFrame, labels: pl.DataFrame, notes: _Notes) -> Rows:
    """Gives which of the transactions [n] are known frauds."""
    rows = transactions.height
    beyond = labels.filter(~pl.col("known_at").is_between(EARLIEST, LATEST, closed="left"))
    if beyond.height:
        notes.refuse(
            "known_at",
            f"{_of(beyond.height, labels.height)} labels were known before {EARLIEST.year} or after {LATEST.year - 1}, such as "
            f"that of {beyond['transaction_id'][0]!r}: leave out a label that was never known",
        )
        labels = labels.filter(pl.col("known_at").is_between(EARLIEST, LATEST, closed="left"))
    early = int((labels["known_at"] < labels["occurred_at"]).sum())
    if early:
        notes.refuse(
            "known_at",
            f"{_of(early, labels.height)} labels were known before their transaction occurred.  A day alone begins at "
            'midnight: { pattern = "{day} 23:59:59" } is its end',
        )
    at_once = int((labels["known_at"] == labels["occurred_at"]).sum())
    if at_once > _SPARSE * labels.height:
        notes.mention(
            "known_at",
            f"{_of(at_once, labels.height)} labels were known the moment their transaction occurred; if that isn't so, "
            "`label_delay` in the mapping says how long it takes",
        )
    newest = (
        labels.sort("known_at", maintain_order=True)
        .unique(["account_id", "transaction_id"], keep="last", maintain_order=True)
        .select("account_id", "transaction_id", "is_fraud")
    )
    # Few transactions have a label: the others needn't be joined.
    labelled = transactions["transaction_id"].is_in(newest["transaction_id"].implode()).arg_true().to_numpy()
    joined = transactions.select("account_id", "transaction_id")[labelled].join(
        newest, on=["account_id", "transaction_id"], how="left", maintain_order="left"
    )["is_fraud"]
    is_fraud: Rows = np.zeros(rows, bool)
    is_fraud[labelled] = joined.fill_null(value=False).to_numpy()
    frauds = int(is_fraud.sum())
    found = min(len(joined) - joined.null_count(), newest.height)
    if not frauds:
        stray = (
            f"; none of the {newest.height:,} labels belongs to a transaction" if newest.height and not found else ""
        )
        notes.refuse(
            "labels", f"one class only: of {rows:,} transactions none is a fraud{stray}. A past with labels that say "
            "is_fraud would do; in a mapping, `label.is_fraud` and `fraud_values` name them",
        )  # fmt: skip
        return is_fraud
    if frauds == rows:
        notes.refuse("labels", f"one class only: all {rows:,} transactions are frauds. The genuine ones are needed too")
        return is_fraud
    if found < newest.height:
        notes.mention("labels", f"{_of(newest.height - found, newest.height)} belong to no transaction of the past")
    share = frauds / rows
    if frauds < _FEW_LABELS:
        notes.mention("labels", f"only {frauds} of {rows:,} transactions are frauds: too few to learn much from")
    elif share > _MANY_FRAUDS or share < _RARE_FRAUDS:
        notes.mention("labels", f"{_of(frauds, rows)} transactions are frauds: do `fraud_values` name the right ones?")
    parts = [int(part.sum()) for part in np.array_split(is_fraud, _PARTS)]
    if frauds >= _PARTS * _ENOUGH and 0 in parts:
        empty = [f"{100 * i // _PARTS} to {100 * (i + 1) // _PARTS} %" for i, part in enumerate(parts) if not part]
        notes.mention("labels", f"no fraud is known in this part of the rows: {_listed(empty)}; were labels kept then?")
    return is_fraud


def _look_for_rates(transactions: pl.DataFrame, rates: Rates, notes: _Notes) -> None:
    for currency, count in transactions["currency"].drop_nulls().value_counts(sort=True).iter_rows():
        if currency != rates.currency and currency not in rates.factors:
            notes.refuse("currency", f"{_of(count, transactions.height)} rows have {no_rate(currency, rates)}")


def _look_at_dates(transactions: pl.DataFrame, labels: pl.DataFrame, settings: TrainingSettings, notes: _Notes) -> None:
    """Whether both kinds are there in each part that the training's dates make of the past."""
    try:
        past = known_at(settings.train_until, transactions, labels)
        first = past.transactions.select(
            pl.struct("account_id", "transaction_id").hash().is_first_distinct()
        ).to_series()  # a worker judges no duplicate
        accepted = first.to_numpy()
        cut = split(past, accepted, delay=settings.label_delay, validation=settings.validation)
        if settings.folds:
            require_classes(past, accepted, settings, folds=settings.folds)
    except UnusablePast as error:
        notes.refuse("dates", str(error))
        return
    for purpose, part in (("to fit", cut.fit), ("to choose thresholds and to judge", cut.validation | cut.test)):
        frauds = int(past.is_fraud[part].sum())
        if frauds < _ENOUGH:
            notes.mention(
                "labels",
                f"only {frauds} of the {int(part.sum()):,} rows {purpose} {'is a fraud' if frauds == 1 else 'are frauds'}: "
                "a model of so few may flag nothing, and what is said of it is chance; more history would do",
            )


@dataclass(frozen=True)
class _Compared:
    """The rows that columns are compared with the labels on, in the order of the log."""

    at: Ints
    """Of the past."""
    is_fraud: Rows
    early: Rows
    """Up to the middle one of the frauds: what is found here is tried on the others."""

    @classmethod
    def of(cls, is_fraud: Rows) -> _Compared:
        at = np.sort(
            np.concatenate(
                [_spread(np.flatnonzero(is_fraud), _MOST_FRAUDS), _spread(np.flatnonzero(~is_fraud), _MOST_GENUINE)]
            )
        )
        compared = is_fraud[at]
        return cls(at, compared, np.cumsum(compared) <= compared.sum() // 2)

    def area(self, values: pl.Series) -> float:
        """Under the ROC curve of these numbers, or of their negatives, where they are there; 0.5 where too few are."""
        there = (
            values.is_not_null() & values.is_not_nan() if values.dtype.is_float() else values.is_not_null()
        ).to_numpy()
        frauds = int(self.is_fraud[there].sum())
        genuine = int(there.sum()) - frauds
        if min(frauds, genuine) < _ENOUGH:
            return 0.5
        rank = values.filter(there).rank().to_numpy()
        above = float(rank[self.is_fraud[there]].sum()) - frauds * (frauds + 1) / 2
        area = above / (frauds * genuine)
        return max(area, 1 - area)

    def area_of_values(self, values: pl.Series) -> float:
        """The same of the share of frauds among the earlier rows of each value, asked of the later ones."""
        table = pl.DataFrame({"value": values, "is_fraud": self.is_fraud, "early": self.early})
        overall = float(table.filter("early")["is_fraud"].mean() or 0.0)  # type: ignore[arg-type]  # of booleans
        rates = (
            table.filter("early")
            .group_by("value")
            .agg(((pl.col("is_fraud").sum() + overall) / (pl.len() + 1)).alias("rate"))
        )
        asked = table.filter(~pl.col("early")).join(
            rates, on="value", how="left", nulls_equal=True, maintain_order="left"
        )
        later = _Compared(self.at[~self.early], self.is_fraud[~self.early], self.early[~self.early])
        return later.area(asked["rate"].fill_null(overall))

    def only_frauds_have(self, values: pl.Series) -> list[tuple[object, int]]:
        """Values of enough frauds and of no genuine row, with how many frauds; the most frequent first."""
        counted = (
            pl.DataFrame({"value": values, "is_fraud": self.is_fraud})
            .group_by("value")
            .agg(pl.col("is_fraud").sum().alias("frauds"), pl.len().alias("rows"))
            .filter((pl.col("frauds") == pl.col("rows")) & (pl.col("frauds") >= _ENOUGH))
            .sort("frauds", descending=True)
        )
        return list(counted.select("value", "frauds").iter_rows())


def _look_for_leaks(
    transactions: pl.DataFrame, is_fraud: Rows, attributes: Sequence[str] | None, trusted: Sequence[str], notes: _Notes
) -> None:
    compared = _Compared.of(is_fraud)
    frauds = int(compared.is_fraud.sum())
    if min(frauds, compared.at.size - frauds) < _ENOUGH:
        return
    _look_for_telling_ids(transactions[compared.at], compared, notes)
    for name in ("amount", "latitude", "longitude"):
        if (area := compared.area(transactions[name].gather(compared.at))) > _TELLS_ALL:
            notes.mention(name, f"it alone tells frauds from the others (AUC {area:.4f}); can that be?")
    learnt, _ = choose(transactions, attributes)
    for name in learnt:
        says = _what_it_gives_away(transactions[name], compared, is_fraud)
        if says is None:
            continue
        why, tells_most = says
        if name in trusted or not tells_most:
            notes.mention(name, why)
        else:
            notes.refuse(
                name,
                f"{why}. It seems to be known only after the fact: leave it out (`drop` in the mapping, or --attributes "
                "with the others); if it is known when a payment comes, --trust names it",
            )


def _what_it_gives_away(column: pl.Series, compared: _Compared, is_fraud: Rows) -> tuple[str, bool] | None:
    """Why this column can hardly be known in time, and whether it tells most frauds; None where it can."""
    values = column.gather(compared.at)
    frauds = int(compared.is_fraud.sum())
    few = values.n_unique() <= _MOST_VALUES
    is_number = values.dtype.is_numeric() or values.dtype == pl.Boolean
    area = compared.area(values.cast(pl.Float64)) if is_number else 0.5
    if few:
        area = max(area, compared.area_of_values(values))
    if area > _TELLS_ALL:
        return f"it alone tells frauds from the others (AUC {area:.4f})", True
    there = values.is_not_null()
    for told, only in (("there", there), ("missing", ~there)):
        count = int((only.to_numpy() & compared.is_fraud).sum())
        whole = column.is_not_null() if told == "there" else column.is_null()
        if count >= max(_ENOUGH, _WORTH_SAYING * frauds) and not (whole.to_numpy() & ~is_fraud).any():
            return f"it is {told} for frauds only, for {_of(count, frauds)} of them", count > _SPARSE * frauds
    if not few:
        return None
    telling = [
        (value, count)
        for value, count in compared.only_frauds_have(values)
        if count >= _WORTH_SAYING * frauds
        and not ((column == value).fill_null(value=False).to_numpy() & ~is_fraud).any()
    ]
    if not telling:
        return None
    count = sum(of for _, of in telling)
    shown = _listed(f"{value!r}" for value, _ in telling)
    tells_most = count > _SPARSE * frauds and values.n_unique() <= _A_STATUS
    return f"only frauds have the value {shown}: {_of(count, frauds)} of them", tells_most


def _look_for_telling_ids(rows: pl.DataFrame, compared: _Compared, notes: _Notes) -> None:
    """An id says nothing of a payment: where it tells frauds, they came from somewhere else than the genuine rows."""
    where = "the frauds seem to come from another source than the others"
    area = compared.area(pl.Series(compared.at))
    if area > _TELLS_ALL:
        notes.mention("rows", f"the place in the table tells frauds from the others (AUC {area:.4f}): {where}")
    for name in IDS:
        number = rows[name].str.extract(r"(\d{1,18})$").cast(pl.Float64)
        if (area := compared.area(number)) > _TELLS_ALL:
            notes.mention(name, f"the number in it tells frauds from the others (AUC {area:.4f}): {where}")
        shape = rows[name].str.replace_all(r"\d+", "#")
        if shape.n_unique() <= _MOST_VALUES and (area := compared.area_of_values(shape)) > _TELLS_ALL:
            notes.mention(name, f"how it is written tells frauds from the others (AUC {area:.4f}): {where}")


def _spread(rows: Ints, most: int) -> Ints:
    """At most so many of them, evenly."""
    return rows if rows.size <= most else rows[np.linspace(0, rows.size - 1, most).astype(np.int64)]


def _days(first: date, days: int) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range(days))


def _of(count: int, rows: int) -> str:
    return f"{count:,} of {rows:,}"


def _listed(names: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN:,} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
