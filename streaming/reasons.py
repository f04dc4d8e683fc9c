"""Why a margin is what it is, feature by feature: for alerts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.catalogue import Feature
from schemas.errors import UnusableModel
from schemas.verdict import Reason
from streaming.bundle import LoadedBundle
from streaming.treeshap import explain, forest_of, quadrature

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

MOST_REASONS = 5

_ROWS_TO_TRY = 16
_TOLERANCE = 1e-9


class Explainer:
    """Splits the margins of one bundle into what each feature adds: exact TreeSHAP, as LightGBM's `pred_contrib`.

    Safe to make in one thread and to ask in others; needs no GIL while it computes.
    """

    def __init__(self, bundle: LoadedBundle) -> None:
        """Takes milliseconds, and seconds the first time on a machine, for then it is compiled.

        Raises UnusableModel where the bundle's trees don't add up to its golden margins.
        """
        self._forest = forest_of(bundle.trees())
        self._points, self._weights = quadrature(self._forest.longest)
        self._features = len(bundle.manifest.features)
        vectors, margins = bundle.golden()
        told = self.contributions(vectors[:_ROWS_TO_TRY]).sum(axis=1) + bundle.manifest.base
        off = np.abs(told - margins[:_ROWS_TO_TRY])
        if not (off <= _TOLERANCE * (1 + np.abs(margins[:_ROWS_TO_TRY]))).all():
            raise UnusableModel(
                f"bundle {bundle.name}: its trees' contributions miss the golden margins by up to {float(off.max())!r}; "
                "graph and trees are of two models: train it again"
            )

    def contributions(self, vectors: Vectors) -> Floats:
        """What each feature adds to the margin, float64 [n, features], of `vectors` float32 [n, features].

        A row's sum is its margin less the manifest's base.
        """
        out = np.empty((len(vectors), self._features), np.float64)
        explain(np.ascontiguousarray(vectors, np.float32), self._forest, self._points, self._weights, out)
        return out


def reasons(vector: Vectors, contributions: Floats, catalogue: Sequence[Feature]) -> tuple[Reason, ...]:
    """The at most five features that speak most for fraud, the strongest first.

    `vector` and `contributions` [features] are of one transaction, in the order of the `catalogue`.
    """
    strongest = np.argsort(-contributions, kind="stable")[:MOST_REASONS]
    return tuple(
        Reason(
            feature=catalogue[i].name,
            meaning=catalogue[i].meaning,
            value=float(vector[i]) if np.isfinite(vector[i]) else None,
            contribution=float(contributions[i]),
        )
        for i in strongest.tolist()
        if contributions[i] > 0
    )
