"""The 14 features that the handbook's authors published, made of a vector and the transaction that it describes.

Their windows take the transaction in, ours leave it out: counts are ours and one, means are weighed anew.

| published | over | of a vector |
|---|---|---|
| `CUSTOMER_ID_NB_TX_w` | (t − w, t], itself included | `account_count_w` + 1 |
| `CUSTOMER_ID_AVG_AMOUNT_w` | the same | (count · `account_mean_w` + amount) / (count + 1) |
| `TERMINAL_ID_NB_TX_w` | (t − 7 d − w, t − 7 d] | `counterparty_matured_count_w`: ages in [7 d, 7 d + w) are these |
| `TERMINAL_ID_RISK_w` | the same | `counterparty_fraud_rate_w`; 0 where there was no payment |

A transaction is no seven days old at its own moment: where windows are matured, nothing is to be added to ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, combinations
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import column
from schemas.errors import FraudScorerError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
MINOR_IN_MAJOR = 100
"""The table's amounts are in euros, ours in cents."""
CLOSE = 1e-6
"""Relative, of means: a vector is float32 (6e-8), and so is the published table."""
LEFT_OVER = 1e-9
"""Of a mean, in euros: what a running sum of floats leaves where all that it holds is payments of 0.00."""
_WINDOWS = (("1DAY", "24h", "1d"), ("7DAY", "7d", "7d"), ("30DAY", "30d", "30d"))
"""In the published names, of an account, of a counterparty."""


class NoSuchFeature(FraudScorerError):
    """The catalogue has another name for it, or has it no more."""


@dataclass(frozen=True)
class Seen:
    """What a worker saw of n transactions of accounts and counterparties: rows stand in the order of the log."""

    transactions: pl.DataFrame
    """As schemas.tables has them."""
    vectors: npt.NDArray[np.float32]
    """[n, features]"""

    def __getitem__(self, name: str) -> Floats:
        """A feature of all, [n].  Raises NoSuchFeature."""
        try:
            at = column(name)
        except ValueError as error:
            raise NoSuchFeature(
                f"the catalogue has no feature {name!r}, of which a published one is made (benchmarks/published.py)"
            ) from error
        return self.vectors[:, at].astype(np.float64)

    def amount(self) -> Floats:
        """In the table's unit, [n]."""
        return self.transactions["amount"].to_numpy().astype(np.float64) / MINOR_IN_MAJOR

    def of(self, rows: Flags) -> Seen:
        """Some of them."""
        return Seen(self.transactions.filter(pl.Series(rows)), self.vectors[rows])


class Derivation(NamedTuple):
    """How a published feature follows from what was seen."""

    published: str
    of: str
    """In words."""
    values: Callable[[Seen], Floats]
    close: float = 0.0
    """Relative; 0: equal in float32, as which it was published."""

    def agrees(self, ours: Floats, theirs: Floats) -> Flags:
        """Of each value, whether it is the published one."""
        if self.close:
            return np.abs(ours - theirs) <= self.close * np.abs(theirs)
        return np.equal(ours.astype(np.float32), theirs.astype(np.float32))


def _count(window: str) -> Callable[[Seen], Floats]:
    return lambda seen: seen[f"account_count_{window}"] + 1


def _mean(window: str) -> Callable[[Seen], Floats]:
    return lambda seen: (_sum(seen, window) + seen.amount()) / (seen[f"account_count_{window}"] + 1)


def _sum(seen: Seen, window: str) -> Floats:
    """Of the account's payments before, in the table's unit; 0 where there were none, and their mean is missing."""
    return seen[f"account_count_{window}"] * np.nan_to_num(seen[f"account_mean_{window}"]) / MINOR_IN_MAJOR


def _matured(window: str) -> Callable[[Seen], Floats]:
    return lambda seen: seen[f"counterparty_matured_count_{window}"]


def _risk(window: str) -> Callable[[Seen], Floats]:
    return lambda seen: np.nan_to_num(seen[f"counterparty_fraud_rate_{window}"])


def _frauds_over_count(window: str) -> Callable[[Seen], Floats]:
    return lambda seen: seen[f"counterparty_matured_frauds_{window}"] / np.maximum(_matured(window)(seen), 1)


OF_THE_TIME = (
    Derivation("TX_DURING_WEEKEND", "weekday ≥ 5", lambda seen: np.where(seen["weekday"] >= 5, 1.0, 0.0)),
    Derivation("TX_DURING_NIGHT", "hour ≤ 6", lambda seen: np.where(seen["hour"] <= 6, 1.0, 0.0)),
)
OF_THE_CUSTOMER = tuple(
    chain.from_iterable(
        (
            Derivation(f"CUSTOMER_ID_NB_TX_{name}_WINDOW", f"account_count_{w} and itself", _count(w)),
            Derivation(f"CUSTOMER_ID_AVG_AMOUNT_{name}_WINDOW", f"account_mean_{w} and itself", _mean(w), close=CLOSE),
        )
        for name, w, _ in _WINDOWS
    )
)
OF_THE_TERMINAL = tuple(
    chain.from_iterable(
        (
            Derivation(f"TERMINAL_ID_NB_TX_{name}_WINDOW", f"counterparty_matured_count_{w}", _matured(w)),
            Derivation(f"TERMINAL_ID_RISK_{name}_WINDOW", f"counterparty_fraud_rate_{w}", _risk(w)),
            Derivation(f"TERMINAL_ID_RISK_{name}_WINDOW", f"…_matured_frauds_{w} / count", _frauds_over_count(w)),
        )
        for name, _, w in _WINDOWS
    )
)
DERIVATIONS = (*OF_THE_TIME, *OF_THE_CUSTOMER, *OF_THE_TERMINAL)


class Cause(StrEnum):
    """Of a difference that is the published table's."""

    TIE = "tie"
    LEFTOVER = "leftover"


class Compared(msgspec.Struct, kw_only=True):
    """One published feature, held against ours."""

    published: str
    of: str
    values: int
    equal: int = 0
    ties: int = 0
    leftovers: int = 0
    different: int = 0
    furthest: float = 0.0
    """The largest relative distance among the equal ones."""


class Odd(msgspec.Struct, frozen=True, kw_only=True):
    """A value that differs."""

    transaction_id: str
    published: str
    ours: float
    theirs: float
    cause: Cause | None = None
    """None: none is known."""
    why: str = ""
    """The cause in words."""


def compare(
    seen: Seen, published: pl.DataFrame, derivations: tuple[Derivation, ...] = DERIVATIONS
) -> tuple[list[Compared], list[Odd]]:
    """What is made of `seen`, value by value, against `published` (its rows in the same order).

    Raises NoSuchFeature.
    """
    compared, odd = list[Compared](), list[Odd]()
    ties = _Ties(seen, published)
    for one in derivations:
        ours, theirs = one.values(seen), published[one.published].to_numpy().astype(np.float64)
        agree = one.agrees(ours, theirs)
        apart = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-9)
        line = Compared(
            published=one.published, of=one.of, values=len(ours), equal=int(agree.sum()),
            furthest=float(apart[agree].max(initial=0.0)),
        )  # fmt: skip
        for row in np.flatnonzero(~agree).tolist():
            cause, why = None, ""
            if one.close and abs(ours[row] - theirs[row]) < LEFT_OVER:
                cause, why = Cause.LEFTOVER, "the authors' running sum doesn't come back to 0.00 exactly"
            elif one in OF_THE_CUSTOMER and (order := ties.of(row)):
                cause, why = Cause.TIE, order
            line.ties += cause is Cause.TIE
            line.leftovers += cause is Cause.LEFTOVER
            line.different += cause is None
            odd.append(
                Odd(
                    transaction_id=seen.transactions["transaction_id"][row], published=one.published,
                    ours=float(ours[row]), theirs=float(theirs[row]), cause=cause, why=why,
                )
            )  # fmt: skip
        compared.append(line)
    return compared, odd


class _Ties:
    """Transactions of one customer in one second: which of them came first, the table doesn't say.

    The authors sorted by the second, and their windows hold those that their sorting put first; ours hold those that
    came first on the log.  That is the cause where, with some choice of the others in its windows, all six values of the
    customer are the published ones.
    """

    def __init__(self, seen: Seen, published: pl.DataFrame) -> None:
        self._seen, self._published = seen, published
        self._groups: dict[tuple[str, object], list[int]] = {}
        places = seen.transactions.select("account_id", "occurred_at").with_row_index()
        for row, account, moment in places.filter(pl.len().over("account_id", "occurred_at") > 1).rows():
            self._groups.setdefault((account, moment), []).append(row)

    def of(self, row: int) -> str | None:
        """Why this row's values differ, in words; None where the order of ties doesn't explain them."""
        account, moment = self._seen.transactions.select("account_id", "occurred_at").row(row)
        tied = self._groups.get((account, moment), [])
        others = [one for one in tied if one != row]
        before = [one for one in others if one < row]
        for chosen in _subsets(others):
            if self._gives(row, before, chosen):
                ids = self._seen.transactions["transaction_id"]
                ours, theirs = (
                    ", ".join(ids[one] for one in some) or "none of them" for some in (before, sorted(chosen))
                )
                return (
                    f"{account} paid {len(tied)} times at {moment:%F %T}: before it, ours has {ours}, theirs {theirs}"
                )
        return None

    def _gives(self, row: int, before: list[int], chosen: tuple[int, ...]) -> bool:
        """Are the published values those of a log in which, of its ties, `chosen` came before it?"""
        one = self._seen.of(np.arange(len(self._seen.vectors)) == row)
        amount = self._seen.amount()
        for (count, mean), (_, window, _) in zip(_pairs(OF_THE_CUSTOMER), _WINDOWS, strict=True):
            many = count.values(one) - len(before) + len(chosen)
            total = _sum(one, window) + amount[row] - amount[before].sum() + amount[list(chosen)].sum()
            for derivation, value in ((count, many), (mean, total / many)):
                theirs = self._published[derivation.published].to_numpy()[[row]].astype(np.float64)
                if not derivation.agrees(value, theirs)[0]:
                    return False
        return True


def _pairs(derivations: tuple[Derivation, ...]) -> Iterator[tuple[Derivation, Derivation]]:
    return zip(derivations[::2], derivations[1::2], strict=True)


def _subsets(rows: list[int]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(rows, size) for size in range(len(rows) + 1))
