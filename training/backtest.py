"""What a recipe would have been worth: learnt at a date of the past, judged by what came after it.

    |<-- fit -->|<- gap: labels of the last rows arrive ->|<-- test -->|
  train from  until                                      from        until

Vectors are those of a worker that ran all along: labels reach the profiles when they are known, also within the test.  The
model knows no label later than the test's beginning.  How many steps are enough is found on the newest part of the fit,
behind a gap of its own; then all of the fit is learnt from once more.

Of an account that pays for the first time there is no history.  What a recipe with history is worth there is held against the
same recipe that is told nothing but the transaction itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import average_precision_score

from features.catalogue import FEATURES, OF_THE_ACCOUNT
from features.hash_keys import PUBLIC, HashKeys
from schemas.bundle import Calibration, Thresholds
from schemas.currencies import DEFAULT_RATES, Rates
from schemas.wire import microseconds
from training import attributes, replay
from training.calibration import calibrated, probabilities
from training.errors import UnusablePast
from training.evaluate import Evaluation, Kept, evaluate
from training.learners.chosen import learner_of
from training.learners.imbalance import again
from training.learners.learner import Fitted, Rows
from training.narration import Narrator, Silent
from training.settings import TrainingSettings
from training.split import known_at
from training.thresholds import choose

Vectors = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_DAY = 86_400_000_000
_MOMENT = timedelta(microseconds=1)
_TRIED_ON = 0.2
"""Of the fit, the newest part that says how many steps are enough."""
_WHOLE, _ALONE = len(FEATURES), OF_THE_ACCOUNT.start
"""How many of the catalogue's features there are, and how many of them say something of the transaction itself."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """When it is learnt and when it is judged.  Raises UnusablePast where these follow in another order."""

    train_until: datetime
    test_from: datetime
    test_until: datetime
    train_from: datetime | None = None
    """None: the past's beginning."""

    def __post_init__(self) -> None:
        begins = self.train_from or datetime.min.replace(tzinfo=self.train_until.tzinfo)
        if not begins < self.train_until <= self.test_from < self.test_until:
            raise UnusablePast(
                f"the training's rows end {self.train_until}, the test's go from {self.test_from} until {self.test_until}"
                f"{'' if self.train_from is None else f', the training begins {self.train_from}'}: "
                "what would do is --train-from before --train-until, not after --test-from, before --test-until"
            )


@dataclass(frozen=True, kw_only=True)
class Described:
    """A past as a worker would have seen it, described once for any number of backtests."""

    transactions: pl.DataFrame
    labels: pl.DataFrame
    vectors: Vectors
    """[n, features]: the catalogue's."""
    accepted: Bools
    is_fraud: Bools
    """What came to be known of each in the end."""
    time: npt.NDArray[np.int64]
    """When, in microseconds since 1970 UTC."""
    first: Bools
    """Which are the first of their accounts."""

    @classmethod
    def of(
        cls, transactions: pl.DataFrame, labels: pl.DataFrame, rates: Rates = DEFAULT_RATES, keys: HashKeys = PUBLIC
    ) -> Described:
        """Of frames as schemas.tables has them, in the order of the log.  Raises UnusablePast."""
        known = known_at(None, transactions, labels)
        replayed = replay.vectors(known.transactions, known.labels, rates, keys)
        return cls(
            transactions=known.transactions,
            labels=known.labels,
            vectors=replayed.vectors,
            accepted=replayed.accepted,
            is_fraud=known.is_fraud,
            time=known.transactions["occurred_at"].dt.epoch("us").to_numpy().astype(np.int64),
            first=known.transactions["account_id"].is_first_distinct().to_numpy(),
        )


@dataclass(frozen=True, kw_only=True)
class FirstTransactions:
    """The test's rows that are the first of their accounts: what is known of them, and of nobody's habits."""

    rows: int
    frauds: int
    average_precision: float | None
    """Of the model; None where there is no fraud among them, or nothing else."""
    average_precision_alone: float | None
    """Of the same recipe that is told the transaction's own features and attributes only."""


@dataclass(frozen=True, kw_only=True)
class Backtested:
    """The test's rows and what the model said of them."""

    rows: npt.NDArray[np.int64]
    """Of the past's transactions."""
    scores: Floats
    """Calibrated probabilities of fraud."""
    first: Bools
    """Which of the rows are the first of their accounts."""
    scores_alone: Floats
    """Of those [first.sum()], by the transaction alone; NaN where that was not asked: they are of one class."""
    evaluation: Evaluation
    thresholds: Thresholds
    """Of the model before it learnt again, by the rows that it was tried on."""
    fitted: Fitted
    fit_rows: int
    fit_frauds: int
    of_first: FirstTransactions


def backtest(
    past: Described,
    window: Window,
    settings: TrainingSettings,
    *,
    rates: Rates = DEFAULT_RATES,
    without_known: bool = False,
    narrator: Narrator | None = None,
) -> Backtested:
    """Learn and judge.  `without_known`: as `unknown_accounts` has it.  Raises UnusablePast, WrongSettings."""
    tell = narrator or Silent()
    asked = microseconds(window.test_from)
    known = known_at(window.test_from, past.transactions, past.labels)
    seen = np.flatnonzero(past.time <= asked)
    matured = min(microseconds(window.train_until), asked - settings.label_delay // _MOMENT)
    began = int(past.time.min()) if window.train_from is None else microseconds(window.train_from)
    time = past.time[seen]
    fit = past.accepted[seen] & (time >= began) & (time < matured)
    test = np.flatnonzero(past.accepted & (past.time >= asked) & (past.time < microseconds(window.test_until)))
    if without_known:
        test = test[unknown_accounts(past, test, asked, settings.label_delay)]
    more = past.accepted[seen] & (time >= matured) & (time < asked - settings.label_delay // _MOMENT)
    _require_both(
        known.is_fraud[fit], "to learn from", _what_lets_learn(window, settings, later=bool(known.is_fraud[more].any()))
    )
    goes_on = microseconds(window.test_until) <= int(past.time.max())
    _require_both(
        past.is_fraud[test], "to be judged by", "an earlier --test-from" + ", or a later --test-until," * goes_on
    )

    columns, left_out = attributes.choose(known.transactions, settings.attributes)
    tell.stage("encode", attributes.in_words(columns, left_out))
    history = attributes.History(known, past.accepted[seen], columns, settings)
    encoder = history.frozen(window.test_from)
    begins, ends = _tried_on(time[fit], known.is_fraud[fit], settings.label_delay // _MOMENT)
    material = _Material(
        described=past.vectors,
        at=seen[fit],
        encoded=history.as_they_occurred()[fit],
        is_fraud=known.is_fraud[fit],
        early=time[fit] < ends,
        kept=time[fit] >= begins,
        attributes=encoder.features,
    )
    learnt = _learn(material, _WHOLE, settings, tell)
    thresholds = choose(
        learnt.tried,
        material.is_fraud[material.kept],
        replay.amounts(known.transactions.filter(fit & (time >= begins)), rates),
        days=(time[fit].max() - begins) / _DAY,
        settings=settings,
    )

    tell.stage("test", f"judging {len(test):,} later ones, {int(past.is_fraud[test].sum()):,} of them frauds")
    judged = past.transactions[test]
    encoded = encoder.encode_table(judged)
    scores = learnt.scores(past.vectors[test], encoded)
    first = past.first[test]
    alone = np.full(int(first.sum()), np.nan)
    if len(np.unique(past.is_fraud[test[first]])) == 2:
        aside = _learn(material, _ALONE, settings, tell, " by the transaction alone")
        alone = aside.scores(past.vectors[test[first]], encoded[first])
    return Backtested(
        rows=test,
        scores=scores,
        first=first,
        scores_alone=alone,
        evaluation=evaluate(
            Kept(
                is_fraud=past.is_fraud[test],
                account=judged["account_id"],
                occurred_at=judged["occurred_at"],
                amounts=replay.amounts(judged, rates),
                currency=rates.currency,
                days=(window.test_until - window.test_from) / timedelta(days=1),
                segments={},
            ),
            scores=scores,
            thresholds=thresholds,
            costs=settings.costs(),
        ),
        thresholds=thresholds,
        fitted=learnt.fitted,
        fit_rows=int(fit.sum()),
        fit_frauds=int(known.is_fraud[fit].sum()),
        of_first=_of_first(past.is_fraud[test[first]], scores[first], alone),
    )


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What there is to learn from: n rows of the past, in the order of the log."""

    described: Vectors
    """[past's rows, features]: the catalogue's."""
    at: npt.NDArray[np.int64]
    """[n]: which of the past's rows they are."""
    encoded: Vectors
    """[n, attributes' features]"""
    is_fraud: Bools
    early: Bools
    """The rows that are learnt from at first."""
    kept: Bools
    """And those that say how many steps are enough."""
    attributes: tuple[str, ...]

    def rows(self, some: Bools | slice, catalogue: int) -> Rows:
        """Told so many of the catalogue's features, from the first on, and all attributes."""
        return Rows(
            vectors=np.hstack([self.described[self.at[some], :catalogue], self.encoded[some]]),
            is_fraud=self.is_fraud[some],
            features=FEATURES[:catalogue] + self.attributes,
        )


@dataclass(frozen=True, kw_only=True)
class _Learnt:
    """A model, and what it said of the rows that it was tried on before it learnt again."""

    fitted: Fitted
    calibration: Calibration
    catalogue: int
    tried: Floats

    def scores(self, described: Vectors, encoded: Vectors) -> Floats:
        """[n], of the catalogue's vectors and the attributes behind them."""
        vectors = np.hstack([described[:, : self.catalogue], encoded])
        return probabilities(self.fitted.margins(vectors), self.calibration)


def _learn(material: _Material, catalogue: int, settings: TrainingSettings, tell: Narrator, how: str = "") -> _Learnt:
    """From so many of the catalogue's features; `how` is said of it."""
    tell.stage(f"fit{how}", f"finding how many steps are enough for {', '.join(settings.learner)}{how}")
    kept = material.rows(material.kept, catalogue)
    first = learner_of(settings).fit(material.rows(material.early, catalogue), kept, settings, tell.progress)
    margins = first.margins(kept.vectors)
    calibration = calibrated(margins, kept.is_fraud, settings.calibration, seed=settings.seed)
    rows = material.rows(slice(None), catalogue)
    known = f"all of {len(rows.is_fraud):,} transactions, {int(rows.is_fraud.sum()):,} frauds"
    tell.stage(f"again{how}", f"learning from {known}{how}")
    fitted = again(first, rows, settings, tell.progress)
    return _Learnt(
        fitted=fitted, calibration=calibration, catalogue=catalogue, tried=probabilities(margins, calibration)
    )


def _of_first(is_fraud: Bools, scores: Floats, alone: Floats) -> FirstTransactions:
    judged = bool(is_fraud.any() and not is_fraud.all())
    return FirstTransactions(
        rows=is_fraud.size,
        frauds=int(is_fraud.sum()),
        average_precision=float(average_precision_score(is_fraud, scores)) if judged else None,
        average_precision_alone=float(average_precision_score(is_fraud, alone)) if judged else None,
    )


def _what_lets_learn(window: Window, settings: TrainingSettings, *, later: bool) -> str:
    """Where there is nothing to learn from.  `later`: a later end of the training would find frauds."""
    if window.train_until > window.test_from - settings.label_delay:
        return (
            f"labels take {settings.label_delay / timedelta(days=1):.3g} days, so that at {window.test_from} none is known of "
            f"what occurred after {window.test_from - settings.label_delay}: a later --test-from, or a shorter --label-delay,"
        )
    ways = ["an earlier --train-from"] * (window.train_from is not None) + ["a later --train-until"] * later
    return ", or ".join(ways or ["a later --test-from, when more is known,"])


def unknown_accounts(past: Described, test: npt.NDArray[np.int64], asked: int, delay: timedelta) -> Bools:
    """Of the `test` rows [n], which begin at `asked`: was no fraud of the account known by the end of the day before?

    As published, where cards with known frauds are blocked: a fraud is known a delay after its day, those of the delay
    before the last one (the published training's) from the beginning, and older ones are forgotten.
    """
    account = past.transactions["account_id"].cast(pl.Categorical).to_physical().to_numpy()
    waited = delay // _MOMENT
    frauds = np.flatnonzero(past.is_fraud & (past.time >= asked - 2 * waited))
    time = past.time[frauds]
    known = np.where(time < asked - waited, 0, _DAY * (time // _DAY + 1) + waited)
    first = np.full(int(account.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, account[frauds], known)
    return np.asarray(first[account[test]] > past.time[test])


def _tried_on(time: npt.NDArray[np.int64], is_fraud: Bools, delay: int) -> tuple[int, int]:
    """From when on rows of the fit are tried on, and until when others are learnt from, in microseconds.

    A gap of the delay is between them where there is room for it.  Raises UnusablePast.
    """
    first, last = int(time.min()), int(time.max())
    begins = last - int((last - first) * _TRIED_ON)
    for ends in (begins - delay, begins):
        parts = (is_fraud[time < ends], is_fraud[time >= begins])
        if all(part.any() and not part.all() for part in parts) and ends - first >= (last - first) // 3:
            return begins, ends
    raise UnusablePast(
        f"{int(is_fraud.sum())} frauds among {is_fraud.size} transactions are too few, or too close together, to find out how "
        "much to learn: a training of more days would do"
    )


def _require_both(is_fraud: Bools, purpose: str, remedy: str) -> None:
    if not is_fraud.any() or is_fraud.all():
        raise UnusablePast(f"{is_fraud.size} rows {purpose}, {int(is_fraud.sum())} of them frauds: {remedy} would do")
