"""Why a margin is what it is, feature by feature: for alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.errors import UnusableModel
from schemas.transaction import Transaction
from schemas.verdict import Reason
from streaming.budget import Budget
from streaming.bundle import LoadedBundle
from streaming.phrases import Phrasing
from streaming.treeshap import explain, forest_of, quadrature

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

Reasons = tuple[Reason, ...]

MOST_REASONS = 5
AT_ONCE = 8
"""Rows explained before the budget is asked again: some 3 ms with 300 trees of 63 leaves."""

_ROWS_TO_TRY = 16
_TOLERANCE = 1e-9


class Explainer:
    """Splits the margins of one bundle into what each feature adds: exact TreeSHAP, as LightGBM's `pred_contrib`.

    A linear term adds what it is more than its mean over the training rows.

    Safe to make in one thread and to ask in others; needs no GIL while it computes.
    """

    def __init__(self, bundle: LoadedBundle, *, currency: str) -> None:
        """`currency`: what amounts in vectors are in.

        Takes milliseconds, and seconds the first time on a machine, for then it is compiled.

        Raises UnusableModel where the bundle's trees don't add up to its golden margins.
        """
        self._phrasing = Phrasing.of(bundle.described, bundle.manifest.usual, currency)
        self._words = bundle.encoder.words
        self._forest = forest_of(bundle.trees())
        self._points, self._weights = quadrature(self._forest.longest)
        self._linear = LinearTerms(bundle.linear())
        self._features = len(bundle.manifest.features)
        vectors, margins = bundle.golden()
        told = self.contributions(vectors[:_ROWS_TO_TRY]).sum(axis=1) + bundle.manifest.base
        off = np.abs(told - margins[:_ROWS_TO_TRY])
        if not (off <= _TOLERANCE * (1 + np.abs(margins[:_ROWS_TO_TRY]))).all():
            raise UnusableModel(
                f"bundle {bundle.name}: its contributions miss the golden margins by up to {float(off.max())!r}; "
                "graph, trees and linear terms are of two models: train it again"
            )

    def contributions(self, vectors: Vectors) -> Floats:
        """What each feature adds to the margin, float64 [n, features], of `vectors` float32 [n, features].

        A row's sum is its margin less the manifest's base.
        """
        out = np.empty((len(vectors), self._features), np.float64)
        explain(np.ascontiguousarray(vectors, np.float32), self._forest, self._points, self._weights, out)
        self._linear.add_contributions(vectors, out)
        return out

    def reasons(self, vectors: Vectors, transactions: Sequence[Transaction]) -> list[Reasons]:
        """Of each of `vectors`, float32 [n, features]; what attributes were is named of the n `transactions`."""
        return [
            reasons(vector, contributions, self._phrasing.followed_by(self._words(transaction)))
            for vector, contributions, transaction in zip(
                vectors, self.contributions(vectors), transactions, strict=True
            )
        ]

    def reasons_within(
        self, budget: Budget, vectors: Vectors, transactions: Sequence[Transaction]
    ) -> list[Reasons | Literal["pending"]]:
        """Of as many of `vectors` as the budget pays for, in their order; the others are `pending`."""
        told: list[Reasons | Literal["pending"]] = []
        while len(told) < len(vectors) and budget.is_left():
            with budget.spending():
                some = slice(len(told), len(told) + AT_ONCE)
                told += self.reasons(vectors[some], transactions[some])
        return told + ["pending"] * (len(vectors) - len(told))


class LinearTerms:
    """What of the margin is linear."""

    def __init__(self, table: pl.DataFrame) -> None:
        """`table`: as in a bundle (schemas.bundle_tables.LINEAR_COLUMNS)."""
        self._features = table["feature"].to_numpy()
        self._weight, self._lowest, self._highest, self._missing, self._mean = (
            table[name].to_numpy() for name in ("weight", "lowest", "highest", "missing", "mean")
        )

    def add_contributions(self, vectors: Vectors, out: Floats) -> None:
        """Adds to `out` [n, features] what each term says of `vectors` [n, features], less its mean."""
        values = vectors[:, self._features].astype(np.float64)
        terms = np.where(np.isnan(values), self._missing, np.clip(values, self._lowest, self._highest) * self._weight)
        out[:, self._features] += terms - self._mean


def reasons(vector: Vectors, contributions: Floats, phrasing: Phrasing) -> Reasons:
    """The at most five features that speak most for fraud, the strongest first.

    `vector` and `contributions` [features] are of one transaction.
    """
    told = []
    for i in np.argsort(-contributions, kind="stable")[:MOST_REASONS].tolist():
        if contributions[i] <= 0:
            break
        feature = phrasing.features[i]
        value = float(vector[i]) if np.isfinite(vector[i]) else None
        told.append(
            Reason(
                feature=feature.name,
                meaning=feature.meaning,
                value=value,
                contribution=float(contributions[i]),
                text=phrasing.text(i, value),
            )
        )
    return tuple(told)
