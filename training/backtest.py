"""What a recipe would have been worth: learnt at a date of the past, judged by what came after it.

    |<-- fit -->|<- gap: labels of the last rows arrive ->|<-- test -->|
  train from  until                                      from        until

Vectors are those of a worker that ran all along: labels reach the profiles when they are known, also within the test.  The
model knows no label later than the test's beginning.  How many steps are enough is found on the newest part of the fit,
behind a gap of its own; then all of the fit is learnt from once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import FEATURES
from schemas.bundle import Thresholds
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
_TRIED_ON = 0.2
"""Of the fit, the newest part that says how many steps are enough."""


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

    @classmethod
    def of(cls, transactions: pl.DataFrame, labels: pl.DataFrame, rates: Rates = DEFAULT_RATES) -> Described:
        """Of frames as schemas.tables has them, in the order of the log.  Raises UnusablePast."""
        known = known_at(None, transactions, labels)
        replayed = replay.vectors(known.transactions, known.labels, rates)
        return cls(
            transactions=known.transactions,
            labels=known.labels,
            vectors=replayed.vectors,
            accepted=replayed.accepted,
            is_fraud=known.is_fraud,
            time=known.transactions["occurred_at"].dt.epoch("us").to_numpy().astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class Backtested:
    """The test's rows and what the model said of them."""

    rows: npt.NDArray[np.int64]
    """Of the past's transactions."""
    scores: Floats
    """Calibrated probabilities of fraud."""
    evaluation: Evaluation
    thresholds: Thresholds
    """Of the model before it learnt again, by the rows that it was tried on."""
    fitted: Fitted
    fit_rows: int
    fit_frauds: int


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
    matured = min(microseconds(window.train_until), asked - settings.label_delay // timedelta(microseconds=1))
    began = int(past.time.min()) if window.train_from is None else microseconds(window.train_from)
    time = past.time[seen]
    fit = past.accepted[seen] & (time >= began) & (time < matured)
    test = np.flatnonzero(past.accepted & (past.time >= asked) & (past.time < microseconds(window.test_until)))
    if without_known:
        test = test[unknown_accounts(past, test, asked, settings.label_delay)]
    _require_both(known.is_fraud[fit], "to learn from", "an earlier --train-from, or a later --train-until")
    _require_both(past.is_fraud[test], "to be judged by", "a later --test-until")

    columns, left_out = attributes.choose(known.transactions, settings.attributes)
    tell.stage("encode", attributes.in_words(columns, left_out))
    history = attributes.History(known, past.accepted[seen], columns, settings)
    encoder = history.frozen(window.test_from)
    features = FEATURES + encoder.features
    encoded = history.as_they_occurred()

    def rows_of(some: Bools) -> Rows:
        vectors = np.hstack([past.vectors[seen[some]], encoded[some]])
        return Rows(vectors=vectors, is_fraud=known.is_fraud[some], features=features)

    tell.stage("fit", f"finding how many steps are enough for {', '.join(settings.learner)}")
    begins, ends = _tried_on(time[fit], known.is_fraud[fit], settings.label_delay // timedelta(microseconds=1))
    kept = rows_of(fit & (time >= begins))
    first = learner_of(settings).fit(rows_of(fit & (time < ends)), kept, settings, tell.progress)
    margins = first.margins(kept.vectors)
    calibration = calibrated(margins, kept.is_fraud, settings.calibration, seed=settings.seed)
    thresholds = choose(
        probabilities(margins, calibration),
        kept.is_fraud,
        replay.amounts(known.transactions.filter(fit & (time >= begins)), rates),
        days=(time[fit].max() - begins) / _DAY,
        settings=settings,
    )
    tell.stage(
        "again", f"learning from all of {int(fit.sum()):,} transactions, {int(known.is_fraud[fit].sum()):,} frauds"
    )
    fitted = again(first, rows_of(fit), settings, tell.progress)

    tell.stage("test", f"judging {len(test):,} later ones, {int(past.is_fraud[test].sum()):,} of them frauds")
    vectors = np.hstack([past.vectors[test], encoder.encode_table(past.transactions[test])])
    scores = probabilities(fitted.margins(vectors), calibration)
    judged = past.transactions[test]
    return Backtested(
        rows=test,
        scores=scores,
        evaluation=evaluate(
            Kept(
                is_fraud=past.is_fraud[test],
                account=judged["account_id"],
                occurred_at=judged["occurred_at"],
                amounts=replay.amounts(judged, rates),
                days=(window.test_until - window.test_from) / timedelta(days=1),
                segments={},
            ),
            scores=scores,
            thresholds=thresholds,
            costs=settings.costs(),
        ),
        thresholds=thresholds,
        fitted=fitted,
        fit_rows=int(fit.sum()),
        fit_frauds=int(known.is_fraud[fit].sum()),
    )


def unknown_accounts(past: Described, test: npt.NDArray[np.int64], asked: int, delay: timedelta) -> Bools:
    """Of the `test` rows [n], which begin at `asked`: was no fraud of the account known by the end of the day before?

    As published, where cards with known frauds are blocked: a fraud is known a delay after its day, those of the delay
    before the last one (the published training's) from the beginning, and older ones are forgotten.
    """
    account = past.transactions["account_id"].cast(pl.Categorical).to_physical().to_numpy()
    waited = delay // timedelta(microseconds=1)
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
