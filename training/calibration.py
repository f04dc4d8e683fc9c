"""Margins as probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.bundle import Calibration

Floats = npt.NDArray[np.float64]

_ROUNDS = 100
_ENOUGH = 1e-12


def calibrate(margins: Floats, is_fraud: npt.NDArray[np.bool_]) -> Calibration:
    """Platt's logistic fit of `is_fraud` on `margins` [n], which are of rows that the learner wasn't fitted on.

    With Platt's smoothed targets, so that rows that are told apart perfectly don't ask for an infinite slope.  Margins
    that speak against themselves give the share of frauds to all.
    """
    frauds = int(is_fraud.sum())
    genuine = is_fraud.size - frauds
    target = np.where(is_fraud, (frauds + 1) / (frauds + 2), 1 / (genuine + 2))
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
    return _logistic(calibration.slope * margins + calibration.intercept)


def _logistic(z: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(np.minimum(-z, 700.0))), np.float64)


def _loss(z: Floats, target: Floats) -> float:
    return float((np.logaddexp(0, z) - target * z).sum())
