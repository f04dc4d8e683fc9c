"""Several learners together: the mean of their calibrated log-odds, weighted, where that is better than each alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

from schemas.bundle import Calibration
from training.calibration import calibrate
from training.export import NO_TERMS, Exported, after_another, constant, exported
from training.learners.learner import Card, Fitted, Floats, Learner, Rows, Steps, Vectors, shares
from training.settings import TrainingSettings

_VOTES = 20
"""A weight is a multiple of 1 / _VOTES."""


@dataclass(frozen=True)
class Ensemble:
    """Learners who vote."""

    learners: Sequence[Learner]

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> Fitted:
        """A step is one of its learners'.

        Better is a higher average precision on the validation rows; the best alone where the mean of several is not.
        """
        fitted: list[Fitted] = []
        for learner in self.learners:
            on_step(len(fitted), len(self.learners))
            fitted.append(learner.fit(rows, validation, settings, lambda _done, _most: None))
        on_step(len(fitted), len(self.learners))
        margins = [each.margins(validation.vectors) for each in fitted]
        calibrations = [calibrate(of_one, validation.is_fraud) for of_one in margins]
        log_odds = np.stack(
            [known.slope * of_one + known.intercept for known, of_one in zip(calibrations, margins, strict=True)]
        )
        alone = [float(average_precision_score(validation.is_fraud, of_one)) for of_one in log_odds]
        weights, together = voted(log_odds, validation.is_fraud)
        names = [str(each.card()["name"]) for each in fitted]
        told = ", ".join(f"{name} {found:.4f}" for name, found in zip(names, alone, strict=True))
        best = int(np.argmax(alone))
        if together <= alone[best]:
            return BestAlone(
                fitted[best],
                f"average precision alone, on the rows that chose it: {told}; no mean of them is better than {names[best]}",
            )
        members = tuple(
            Member(fitted=each, weight=float(weight), calibration=calibration)
            for each, weight, calibration in zip(fitted, weights, calibrations, strict=True)
            if weight > 0
        )
        return FittedEnsemble(
            members=members,
            chosen=f"average precision alone, on the rows that chose it: {told}; together {together:.4f}",
        )


def voted(log_odds: Floats, is_fraud: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Floats, float]:
    """Weights [learners] of `log_odds` [learners, n], and the average precision of their mean.

    Vote by vote for the one that betters the mean of the votes the most (Caruana et al. 2004); the best mean on the way.
    """
    votes, total = np.zeros(len(log_odds)), np.zeros(log_odds.shape[1])
    best, weights = -1.0, votes
    for _ in range(_VOTES):
        found = [float(average_precision_score(is_fraud, total + of_one)) for of_one in log_odds]
        winner = int(np.argmax(found))
        votes[winner] += 1
        total += log_odds[winner]
        if found[winner] > best:
            best, weights = found[winner], votes.copy()
    return weights / weights.sum(), best


@dataclass(frozen=True)
class BestAlone:
    """One of several learners, and why it."""

    fitted: Fitted
    chosen: str

    @property
    def tolerance(self) -> float:
        return self.fitted.tolerance

    @property
    def uncalibrated(self) -> Calibration:
        return self.fitted.uncalibrated

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> BestAlone:
        return replace(self, fitted=self.fitted.again(rows, settings, on_step))

    def margins(self, vectors: Vectors) -> Floats:
        return self.fitted.margins(vectors)

    def card(self) -> Card:
        return {**self.fitted.card(), "chosen": self.chosen}

    def importance(self) -> Floats:
        return self.fitted.importance()

    def exported(self) -> Exported:
        return self.fitted.exported()


@dataclass(frozen=True, kw_only=True)
class Member:
    """One who votes: `weight` * (slope * margin + intercept)."""

    fitted: Fitted
    weight: float
    calibration: Calibration

    @property
    def scale(self) -> float:
        """What its margin is multiplied by."""
        return self.weight * self.calibration.slope


@dataclass(frozen=True, kw_only=True)
class FittedEnsemble:
    """The mean of several."""

    members: tuple[Member, ...]
    chosen: str

    tolerance = 1e-6
    uncalibrated = Calibration()

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> FittedEnsemble:
        """With the weights and calibrations that the validation rows gave."""
        members: list[Member] = []
        for each in self.members:
            on_step(len(members), len(self.members))
            members.append(replace(each, fitted=each.fitted.again(rows, settings, lambda _done, _most: None)))
        on_step(len(members), len(self.members))
        return replace(self, members=tuple(members))

    def margins(self, vectors: Vectors) -> Floats:
        of_each = [each.scale * each.fitted.margins(vectors) for each in self.members]
        return np.asarray(sum(of_each) + self._start, np.float64)

    def card(self) -> Card:
        said: Card = {"name": "ensemble", "chosen": self.chosen}
        for each in self.members:
            of_one = each.fitted.card()
            name = str(of_one.pop("name"))
            said[f"{name}: weight"] = each.weight
            said |= {f"{name}: {what}": value for what, value in of_one.items()}
        return said

    def importance(self) -> Floats:
        """The mean of its members', by weight [features]."""
        return shares(np.sum([each.weight * each.fitted.importance() for each in self.members], axis=0))

    def exported(self) -> Exported:
        parts = [(each.scale, each.fitted.exported()) for each in self.members]
        trees = [part.trees.with_columns(pl.col("value") * scale) for scale, part in parts]
        terms = [
            part.linear.with_columns(pl.col("weight", "missing", "mean") * scale)
            for scale, part in parts
            if not part.linear.is_empty()
        ]
        return exported(
            after_another([constant(self._start), *trees]),
            pl.concat(terms) if terms else NO_TERMS,
            features=self.members[0].fitted.importance().size,
        )

    @property
    def _start(self) -> float:
        return sum(each.weight * each.calibration.intercept for each in self.members)
