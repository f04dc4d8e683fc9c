"""What a training run is told, with its defaults."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from schemas import installation
from schemas.errors import WrongSettings
from training.costs import Costs

_USUAL = Costs()

Parameters = dict[str, Any]
"""Of one learner, by its own names."""


class LearnerName(StrEnum):
    """What there is to learn with."""

    LIGHTGBM = "lightgbm"
    XGBOOST = "xgboost"
    RANDOM_FOREST = "random-forest"
    LOGISTIC_REGRESSION = "logistic-regression"


class Imbalance(StrEnum):
    """What is done about frauds being rare, inside the fit."""

    NONE = "none"
    WEIGHTS = "weights"
    UNDERSAMPLING = "undersampling"
    SMOTE = "smote"


class CalibrationMethod(StrEnum):
    """How margins become probabilities; `auto` takes the one with the better Brier score, cross-validated."""

    PLATT = "platt"
    ISOTONIC = "isotonic"
    AUTO = "auto"


class Policy(StrEnum):
    """What thresholds are chosen by: the most recall within bounds, as many alerts as the capacity allows, the least cost."""

    PRECISION = "precision"
    CAPACITY = "capacity"
    COST = "cost"
    CHAMPION = "champion"
    """As many looked at and as many declined as by the champion: who looks at them has as much to do as before."""


class VectorsFrom(StrEnum):
    """What is learnt from: what the kernel makes of the past, or what workers put into their verdicts."""

    REPLAYED = "replayed"
    SERVED = "served"


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to learn from a past.  Raises WrongSettings where a value can't be meant."""

    out: Path = installation.bundles("")
    """The folder of bundles."""
    train_until: datetime | None = None
    """The training's date: nothing that became known later is used.  None: the last moment of the past."""
    label_delay: timedelta = timedelta(days=7)
    """After this a label may be expected; a younger transaction is unknown, not genuine."""
    validation: timedelta | None = None
    """How much of the newest known part is kept from the fit: its older half chooses, its newer half judges.  None: three
    tenths of it, at most 14 days."""
    folds: int = 0
    """At how many earlier dates the same is fitted and judged as well: 0, or from 2 to 20."""
    seed: int = 0
    threads: int = 0
    """Of the learners; 0: one for each core.  The model is the same with any number."""
    dask: str = ""
    """The scheduler of a Dask cluster that describes the past and fits LightGBM, as tcp://HOST:PORT.  Empty: none does."""

    learner: tuple[LearnerName, ...] = (LearnerName.LIGHTGBM,)
    """Several are an ensemble."""
    learners: dict[str, Parameters] = {}
    """By learner: parameters that are not its default.  LightGBM's go before what `trees` to `feature_share` say."""
    learners_until: datetime | None = None
    """What was known until then chose these parameters, where they were searched for.  None: nobody searched."""
    imbalance: Imbalance = Imbalance.NONE
    imbalance_ratio: float = 10.0
    """How many genuine transactions there are to be to a fraud, by weight or by number."""
    calibration: CalibrationMethod = CalibrationMethod.PLATT

    attributes: tuple[str, ...] | None = None
    """The columns that are learnt from beside the catalogue: `channel`, `category`, `country`, `currency`, `attributes.<name>`.
    None: all that are of use."""
    smoothing: float = 50.0
    """How many transactions the share of frauds among all of a column weighs, where it steps in for too few of a value."""
    smallest_value: int = 10
    """Transactions that a category's value must have been seen in to be known."""
    most_values: int = 1_000
    """Known values of a category, at most: the first to be seen so often."""

    trees: int = 800
    leaves: int = 15
    learning_rate: float = 0.025
    """Small: each tree may ask other features, and many small steps depend less on which than a few large ones."""
    smallest_leaf: int = 50
    """Rows in it, at least: frauds are rare, and smaller leaves learn them by heart."""
    l2: float = 10.0
    feature_share: float = 0.3
    """Of the features that each tree may ask: several describe the same thing over other windows."""
    patience: int = 50
    """Stop after so many trees that did not better the average precision on the validation rows."""
    least_gain: float = 0.0005
    """Of average precision, that betters it, for LightGBM: where many trees bring less, they learn these rows' chance."""

    current_anyway: bool = True
    """Put a first model in use also where it flags nothing.  `training run` does so only if it is told to."""
    trusted: tuple[str, ...] = ()
    """Columns that are learnt from although they alone tell the frauds: whoever names one says that it is known in time."""

    thresholds_by: Policy = Policy.PRECISION
    review_share: float = 0.01
    """The review capacity: alerts as a share of the transactions."""
    review_per_day: float | None = None
    """The review capacity in alerts a day; instead of the share."""
    review_precision: float = 0.05
    """Looking is worth while if at least so many of the alerts are frauds."""
    decline_precision: float = 0.9
    """Decline where at least so many of the declined are frauds."""
    cost_missed_share: float = _USUAL.missed_share
    cost_missed_fixed: float = _USUAL.missed_fixed
    cost_review: float = _USUAL.review
    cost_wrong_decline: float = _USUAL.wrong_decline
    """training.costs.Costs, in minor units of the workers' currency: by them thresholds are chosen, and every model is judged."""

    def __post_init__(self) -> None:
        _require(self.train_until is None or self.train_until.tzinfo is not None, "train_until", "needs a time zone")
        _require(self.label_delay >= timedelta(0), "label_delay", "must not be negative")
        _require(self.validation is None or self.validation > timedelta(0), "validation", "must be above 0")
        _require(self.folds == 0 or 2 <= self.folds <= 20, "folds", "must be 0 (none) or from 2 to 20")
        _require(0 <= self.seed < 2**31, "seed", "must be from 0 to 2147483647")
        _require(self.threads >= 0, "threads", "must be 0 (one a core) or more")
        _require(bool(self.learner), "learner", f"must name one of {', '.join(LearnerName)}")
        _require(len(set(self.learner)) == len(self.learner), "learner", "must name each once")
        unknown = sorted(name for name in self.learners if name not in list(LearnerName))
        _require(not unknown, "learners", f"must be of {', '.join(LearnerName)}, not of {', '.join(unknown)}")
        _require(self.imbalance_ratio >= 1, "imbalance_ratio", "must be at least 1")
        _require(self.smoothing > 0, "smoothing", "must be above 0")
        _require(self.smallest_value >= 1, "smallest_value", "must be at least 1")
        _require(1 <= self.most_values <= 1_000_000, "most_values", "must be from 1 to 1000000")
        _require(1 <= self.trees <= 10_000, "trees", "must be from 1 to 10000")
        _require(2 <= self.leaves <= 4_096, "leaves", "must be from 2 to 4096")
        _require(0 < self.learning_rate <= 1, "learning_rate", "must be above 0 and at most 1")
        _require(self.smallest_leaf >= 1, "smallest_leaf", "must be at least 1")
        _require(self.l2 >= 0, "l2", "must not be negative")
        _require(0 < self.feature_share <= 1, "feature_share", "must be above 0 and at most 1")
        _require(self.patience >= 1, "patience", "must be at least 1")
        _require(0 <= self.least_gain < 1, "least_gain", "must be at least 0 and below 1")
        _require(0 < self.review_share <= 1, "review_share", "must be above 0 and at most 1")
        _require(self.review_per_day is None or self.review_per_day > 0, "review_per_day", "must be above 0")
        _require(0 <= self.review_precision <= 1, "review_precision", "must be from 0 to 1")
        _require(0 <= self.decline_precision <= 1, "decline_precision", "must be from 0 to 1")
        for cost in ("cost_missed_share", "cost_missed_fixed", "cost_review", "cost_wrong_decline"):
            _require(0 <= getattr(self, cost) < math.inf, cost, "must not be negative")

    def costs(self) -> Costs:
        """What outcomes cost."""
        return Costs(
            missed_share=self.cost_missed_share,
            missed_fixed=self.cost_missed_fixed,
            review=self.cost_review,
            wrong_decline=self.cost_wrong_decline,
        )


def columns(text: str) -> tuple[str, ...] | None:
    """
    >>> columns("channel, attributes.tip"), columns("none"), columns("all")
    (('channel', 'attributes.tip'), (), None)
    """
    if text.strip() == "all":
        return None
    return () if text.strip() == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


def learners(text: str) -> tuple[LearnerName, ...]:
    """
    >>> [str(name) for name in learners("lightgbm, logistic-regression")]
    ['lightgbm', 'logistic-regression']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(LearnerName)]
    _require(not unknown, "learner", f"must be of {', '.join(LearnerName)}, not {', '.join(unknown)}")
    return tuple(LearnerName(name) for name in names)


def _require(holds: bool, setting: str, rule: str) -> None:
    if not holds:
        raise WrongSettings(f"{setting} {rule}")
