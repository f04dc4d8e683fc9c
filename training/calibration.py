"""Margins as probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from sklearn.isotonic import isotonic_regression

from schemas.bundle import Calibration
from training.settings import CalibrationMethod

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_ROUNDS = 100
_ENOUGH = 1e-12
_FOLDS = 5
_RISE = 1e-3


def calibrated(margins: Floats, is_fraud: Bools, how: CalibrationMethod, *, seed: int) -> Calibration:
    """Of `margins` [n] of rows that the learner wasn't fitted on.

    `auto` is isotonic where its Brier score is better on rows held back, fold by fold; with few frauds it seldom is.
    """
    if how is CalibrationMethod.AUTO:
        how = _better(margins, is_fraud, seed)
    return isotonic(margins, is_fraud) if how is CalibrationMethod.ISOTONIC else calibrate(margins, is_fraud)


def _better(margins: Floats, is_fraud: Bools, seed: int) -> CalibrationMethod:
    if min(int(is_fraud.sum()), int((~is_fraud).sum())) < 2 * _FOLDS:
        return CalibrationMethod.PLATT
    # The frauds are dealt out evenly: each fold has its share.
    shuffled = np.random.default_rng(seed).permutation(is_fraud.size)
    order = shuffled[np.argsort(is_fraud[shuffled], kind="stable")]
    of_platt = of_isotonic = 0.0
    for fold in range(_FOLDS):
        held = order[fold::_FOLDS]
        others = np.delete(np.arange(is_fraud.size), held)
        of_platt += brier(margins[held], is_fraud[held], calibrate(margins[others], is_fraud[others]))
        of_isotonic += brier(margins[held], is_fraud[held], isotonic(margins[others], is_fraud[others]))
    return CalibrationMethod.ISOTONIC if of_isotonic < of_platt else CalibrationMethod.PLATT


def isotonic(margins: Floats, is_fraud: Bools) -> Calibration:
    """The isotonic fit of `is_fraud` on `margins` [n]: steps, and straight lines from each to the next.

    A step rises too, by a thousandth of its score at either end, at most, so that its margins are still told apart.  With
    Platt's smoothed targets: nothing is 0 or 1 for sure.
    """
    several, same, rows = np.unique(margins, return_inverse=True, return_counts=True)
    share = np.bincount(same, _targets(is_fraud)) / rows
    # Rounded: one step must not be several that differ in their last bit.
    steps = np.round(isotonic_regression(share, sample_weight=rows), 12)
    scores, first, long = np.unique(steps, return_index=True, return_counts=True)
    below = np.diff(scores, prepend=0.0) * _RISE
    above = np.minimum(np.diff(scores, append=1.0), scores) * _RISE
    ends = np.stack([several[first], several[first + long - 1]], axis=1).ravel()
    heights = np.stack([scores - below, scores + above], axis=1).ravel()
    apart = np.append(True, np.diff(ends) > 0)
    return Calibration(margins=tuple(ends[apart].tolist()), scores=tuple(heights[apart].tolist()))


def brier(margins: Floats, is_fraud: Bools, calibration: Calibration) -> float:
    """Mean squared error of the scores."""
    return float(np.mean((probabilities(margins, calibration) - is_fraud) ** 2))


def calibrate(margins: Floats, is_fraud: npt.NDArray[np.bool_]) -> Calibration:
    """Platt's logistic fit of `is_fraud` on `margins` [n], which are of rows that the learner wasn't fitted on.

    With Platt's smoothed targets, so that rows that are told apart perfectly don't ask for an infinite slope.  Margins
    that speak against themselves give the share of frauds to all.
    """
    frauds = int(is_fraud.sum())
    genuine = is_fraud.size - frauds
    target = _targets(is_fraud)
    share = np.log((frauds + 1) / (genuine + 1))

    # Newton's method with halving (Lin, Lin and Weng 2007) in centred margins: there the two hardly interact.
    centre, spread = float(margins.mean()), float(margins.std()) or 1.0
    x = (margins - centre) / spread
    slope, intercept = 0.0, share
    loss = _loss(slope * x + intercept, target)
    for _ in range(_ROUNDS):
        p = _logistic(slope * x + intercept)
        off, weight = p - target, np.maximum(p * (1 - p), 1e-12)
        g = np.array([(off * x).sum(), off.sum()])
        h = np.array([[(weight * x * x).sum(), (weight * x).sum()], [(weight * x).sum(), weight.sum()]])
        down = np.linalg.solve(h + 1e-10 * np.eye(2), g)
        step = 1.0
        while step > 1e-10:
            tried = _loss((slope - step * down[0]) * x + intercept - step * down[1], target)
            if tried < loss:
                break
            step /= 2
        else:
            break
        slope, intercept = slope - step * float(down[0]), intercept - step * float(down[1])
        gained, loss = loss - tried, tried
        if gained < _ENOUGH * loss:
            break
    if slope <= 0:
        return Calibration(slope=0.0, intercept=float(share))
    return Calibration(slope=slope / spread, intercept=float(intercept - slope * centre / spread))


def probabilities(margins: Floats, calibration: Calibration) -> Floats:
    """Calibrated scores [n] of `margins` [n]: Calibration.probability, but for all at once."""
    if calibration.margins is not UNSET:
        return _between(margins, np.array(calibration.margins), np.array(calibration.scores))
    return _logistic(calibration.slope * margins + calibration.intercept)


def _targets(is_fraud: Bools) -> Floats:
    frauds = int(is_fraud.sum())
    return np.where(is_fraud, (frauds + 1) / (frauds + 2), 1 / (is_fraud.size - frauds + 2))


def _between(margins: Floats, x: Floats, y: Floats) -> Floats:
    """As Calibration does; numpy's `interp` divides by steps that may be too small for it."""
    above = np.clip(np.searchsorted(x, margins, side="right"), 1, max(x.size - 1, 1))
    below, above = above - 1, np.minimum(above, x.size - 1)
    way = np.clip(margins, x[below], x[above]) - x[below]
    share = np.divide(way, x[above] - x[below], out=np.zeros(margins.size), where=x[above] > x[below])
    between: Floats = y[below] + (y[above] - y[below]) * share
    return between


def _logistic(z: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(np.minimum(-z, 700.0))), np.float64)


def _loss(z: Floats, target: Floats) -> float:
    return float((np.logaddexp(0, z) - target * z).sum())
