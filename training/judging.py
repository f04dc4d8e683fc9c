"""A new model beside the champion, on the same rows, and how sure the figures are.

Accounts are drawn anew with replacement, as many as there are, each with all its rows: what one account does hangs together.
Both models see the same draws, so that the interval of their difference is of the difference, and not of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from schemas.bundle import Thresholds
from training.costs import Costs
from training.evaluate import CARDS, Evaluation, Kept, evaluate

Rows = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROUNDS = 200
DRAWN = ("auc", "average_precision", f"card_precision_{CARDS}", "cost_per_1000")
"""Of a model's metrics, those that have an interval."""
_LOW, _HIGH = 0.025, 0.975


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a model says of the rows."""

    name: str
    scores: Floats
    thresholds: Thresholds
    knew: bool = False
    """Some of the rows themselves had a part in what it is, in the fit or in a choice: its figures may be too good."""

    def of(self, rows: Rows) -> Opinion:
        """What it says of some of them, a mask [n]."""
        return replace(self, scores=self.scores[rows])


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a figure lies in 95 of 100 draws."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How well one model does."""

    name: str
    evaluation: Evaluation
    intervals: dict[str, Interval]
    """Of DRAWN."""
    mean_score: float
    knew: bool
    """As of its Opinion."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How well the new model does, and the champion on the same rows."""

    model: Judged
    champion: Judged | None
    differences: dict[str, Interval]
    """Of DRAWN: the new model's less the champion's; empty without one."""
    currency: str
    """In whose minor units costs are."""
    elsewhere: str | None = None
    """The champion that isn't asked since it learnt from another past, of which only dates say that it knew these rows."""


def judge(kept: Kept, model: Opinion, champion: Opinion | None, *, costs: Costs, seed: int) -> Judgement:
    """Both by the rows that were `kept` from the new one.  The same rows, scores and seed give the same intervals."""
    opinions = [model] if champion is None else [model, champion]
    draws = drawn(kept, opinions, costs=costs, seed=seed)
    judged = [
        Judged(
            name=one.name,
            evaluation=evaluate(kept, scores=one.scores, thresholds=one.thresholds, costs=costs),
            intervals=_intervals(figures),
            mean_score=float(one.scores.mean()),
            knew=one.knew,
        )
        for one, figures in zip(opinions, draws, strict=True)
    ]
    return Judgement(
        model=judged[0],
        champion=None if champion is None else judged[1],
        currency=kept.currency,
        differences={} if champion is None else _intervals(draws[0] - draws[1]),
    )


def drawn(kept: Kept, opinions: Sequence[Opinion], *, costs: Costs, seed: int, rounds: int = ROUNDS) -> Floats:
    """Each model's DRAWN figures in each round [models, rounds, figures]; NaN where a draw is of one class."""
    account = (
        kept.account.rank("dense").to_numpy().astype(np.int64) - 1
    )  # by name, as ties of the card precision are broken
    accounts = int(account.max()) + 1
    rows = np.bincount(account, minlength=accounts)
    ranked = [_Ranked.of(kept, account, one, costs) for one in opinions]
    figures = np.full((len(opinions), rounds, len(DRAWN)), np.nan)
    random = np.random.default_rng(seed)
    for number in range(rounds):
        copies = np.bincount(random.integers(0, accounts, accounts), minlength=accounts)
        drawn_rows = float(copies @ rows)
        for which, of in enumerate(ranked):
            area, average_precision = _areas(copies, of.account, of.is_fraud, of.ends_tie)
            cards = _cards(copies.copy(), of.day_starts, of.card, of.card_is_fraud)
            figures[which, number] = area, average_precision, cards, 1_000 * float(copies @ of.cost) / drawn_rows
    return figures


def _intervals(figures: Floats) -> dict[str, Interval]:
    """Of `figures` [rounds, DRAWN]; none where no draw had both classes."""
    intervals = {}
    for name, column in zip(DRAWN, figures.T, strict=True):
        some = column[~np.isnan(column)]
        if some.size:
            low, high = np.quantile(some, (_LOW, _HIGH))
            intervals[name] = Interval(low=float(low), high=float(high))
    return intervals


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """The rows as one model ranks them, ready for draws."""

    account: Ints
    """[n] from the highest score down."""
    is_fraud: Rows
    ends_tie: Rows
    card: Ints
    """[accounts of each day, day after day] from the highest of its scores down."""
    card_is_fraud: Rows
    day_starts: Ints
    """[days + 1] in `card`."""
    cost: Floats
    """[accounts] of all its rows."""

    @classmethod
    def of(cls, kept: Kept, account: Ints, opinion: Opinion, costs: Costs) -> _Ranked:
        scores = opinion.scores
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        day = kept.occurred_at.dt.date().rank("dense").cast(pl.Int64)
        cards = (
            pl.DataFrame({"day": day, "account": account, "score": scores, "is_fraud": kept.is_fraud})
            .group_by("day", "account")
            .agg(pl.col("score").max(), pl.col("is_fraud").any())
            .sort(["day", "score", "account"], descending=[False, True, False])
        )
        by_row = costs.of(scores, kept.amounts, kept.is_fraud, opinion.thresholds)
        return cls(
            account=account[order],
            is_fraud=kept.is_fraud[order],
            ends_tie=np.append(ranked[1:] != ranked[:-1], True),
            card=cards["account"].to_numpy(),
            card_is_fraud=cards["is_fraud"].to_numpy(),
            day_starts=np.append(0, np.cumsum(np.bincount(cards["day"].to_numpy() - 1))).astype(np.int64),
            cost=np.bincount(account, by_row).astype(np.float64),
        )


@njit(cache=True, nogil=True)
def _areas(copies: Ints, account: Ints, is_fraud: Rows, ends_tie: Rows) -> tuple[float, float]:
    """The area under the ROC curve and the average precision, with so many `copies` of each account."""
    frauds = genuine = tied_frauds = tied_genuine = 0
    area = average = 0.0
    for row in range(len(account)):
        if is_fraud[row]:
            tied_frauds += copies[account[row]]
        else:
            tied_genuine += copies[account[row]]
        if ends_tie[row]:
            area += tied_genuine * (frauds + tied_frauds / 2)
            frauds += tied_frauds
            genuine += tied_genuine
            if tied_frauds:
                average += tied_frauds * frauds / (frauds + genuine)
            tied_frauds = tied_genuine = 0
    if frauds == 0 or genuine == 0:
        return np.nan, np.nan
    return area / frauds / genuine, average / frauds


@njit(cache=True, nogil=True)
def _cards(left: Ints, day_starts: Ints, card: Ints, is_fraud: Rows) -> float:
    """The mean card precision, with so many copies `left` of each account; those that are found are taken out of it."""
    found = 0
    for day in range(len(day_starts) - 1):
        room = CARDS
        for at in range(day_starts[day], day_starts[day + 1]):
            looked_at = min(left[card[at]], room)
            room -= looked_at
            if is_fraud[at]:
                found += looked_at
                left[card[at]] -= looked_at
            if room == 0:
                break
    return found / (CARDS * (len(day_starts) - 1))
