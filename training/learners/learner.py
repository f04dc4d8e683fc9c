"""What every learner is to the recipe: rows in, something that answers with margins and can be exported out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.bundle import Calibration
from training.export import Exported
from training.settings import TrainingSettings

Vectors = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

Card = dict[str, str | int | float | bool | None]

Steps = Callable[[int, int], None]
"""Is told how many steps of at most how many are done."""

ROWS_AT_ONCE = 16_384
"""Where a learner's own way to its margins needs more room than its vectors."""

_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Transactions, described, and what was known of them."""

    vectors: Vectors
    """[n, features]; NaN is a missing value."""
    is_fraud: Bools
    """[n]."""
    features: tuple[str, ...] = ()
    """What the columns are called."""
    weights: Floats | None = None
    """[n]: how many transactions each row counts for; None: all for one."""


class Fitted(Protocol):
    """A model that was learnt."""

    @property
    def tolerance(self) -> float:
        """How far the graph's margins may be from the learner's own; 0: not by a bit."""

    @property
    def uncalibrated(self) -> Calibration:
        """What its margins are to the learner itself."""

    def margins(self, vectors: Vectors) -> Floats:
        """The learner's own margins [n] of `vectors` [n, features]: what the ONNX graph is held to."""

    def card(self) -> Card:
        """The learner's name and parameters, for the manifest; nothing that leaves the model as it is."""

    def importance(self) -> Floats:
        """Each feature's share of what the model makes of them all [features]."""

    def exported(self) -> Exported:
        """The additive form and its graph; the same model gives the same bytes.  Raises NotExportable."""

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> Fitted:
        """The same, to as many steps, learnt from other rows: what decided on their number may be among them."""


class Learner(Protocol):
    """Learns a model from rows.  `tests/unit/test_learners.py` holds every one to this."""

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> Fitted:
        """The same rows, settings and seed give the same model, whatever the number of threads.

        Where it stops early, it is where the average precision on the `validation` rows was best, or nearly.
        """


def finite(vectors: Vectors) -> Vectors:
    """`vectors` with ±inf as the largest numbers, for learners that refuse it; no threshold lies between."""
    return vectors if not np.isinf(vectors).any() else np.clip(vectors, -_LARGEST, _LARGEST)


def shares(amounts: Floats) -> Floats:
    """Of their sum; all 0 where there is nothing to share."""
    of_all: Floats = amounts / max(float(amounts.sum()), 1e-300)
    return of_all
