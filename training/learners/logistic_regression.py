"""Logistic regression on features made ready for it, exported as linear terms and small trees.

Every feature is made ready in one of three ways, found in the rows that it is fitted to:

* steps: a feature of few values (`one_hot`) has a weight for each; a value that was not seen has its neighbour's;
* a staircase: of a heavy-tailed feature the logarithm, in `stairs` steps of as many rows each, so that it is a tree;
* a line: any other, cut to where all but the `clip` share of the rows lie at either end.

What is missing is the median, and has a weight of its own.  Staircases and lines are scaled to a deviation of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import sklearn
from msgspec import UNSET, Meta, UnsetType
from sklearn.linear_model import LogisticRegression as Regression
from threadpoolctl import threadpool_limits

from schemas.bundle import Calibration
from schemas.bundle_tables import LINEAR_COLUMNS, NODE_COLUMNS
from schemas.errors import WrongSettings
from training.export import Exported, after_another, constant, exported
from training.learners.learner import ROWS_AT_ONCE, Card, Floats, Rows, Steps, Vectors, finite, shares
from training.settings import TrainingSettings

Columns = npt.NDArray[np.float64]

_FEW_VALUES = ("hour", "weekday")
_MOST_VALUES = 64
_HEAVY = 20.0
"""A feature is heavy-tailed whose largest hundredth begins so many times above its median."""


class LogisticRegressionParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last three by scikit-learn's names."""

    one_hot: tuple[str, ...] | UnsetType = UNSET
    """Features of few values.  Unset: `hour` and `weekday`, where there are such."""
    stairs: Annotated[int, Meta(ge=0, le=1024)] = 64
    """Steps of a heavy-tailed feature's logarithm; 0: it is a line as well."""
    clip: Annotated[float, Meta(ge=0, lt=0.5)] = 0.001
    C: Annotated[float, Meta(gt=0)] = 1.0
    max_iter: Annotated[int, Meta(ge=1)] = 1_000
    tol: Annotated[float, Meta(gt=0)] = 1e-4


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """A column for each part that `edges` cut the numbers into: `edges[i - 1]` < x <= `edges[i]`; and one for missing."""

    edges: Floats

    @property
    def width(self) -> int:
        """Columns that it makes."""
        return self.edges.size + 2

    def columns(self, values: Floats) -> Columns:
        """[n, width] of the feature's `values` [n]; NaN is missing."""
        return np.eye(self.width)[_parts(self.edges, values)]


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """A column of `heights`, one for each part as of Stepped and the last for missing; and a column of what is missing."""

    edges: Floats
    heights: Floats

    width = 2

    def columns(self, values: Floats) -> Columns:
        return np.stack([self.heights[_parts(self.edges, values)], np.isnan(values)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A column of (x - mean) / deviation, x cut to `lowest` ... `highest`; and a column of what is missing."""

    lowest: float
    highest: float
    middle: float
    mean: float
    deviation: float

    width = 2

    def columns(self, values: Floats) -> Columns:
        missing = np.isnan(values)
        known = np.where(missing, self.middle, np.clip(values, self.lowest, self.highest))
        return np.stack([(known - self.mean) / self.deviation, missing], axis=1)


Ready = Stepped | Staircase | Line
"""How one feature is made ready."""


DEFAULTS = LogisticRegressionParameters()


@dataclass(frozen=True)
class LogisticRegression:
    """Fitted by L-BFGS; stops nowhere early."""

    parameters: LogisticRegressionParameters = DEFAULTS

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> FittedLogisticRegression:  # noqa: ARG002 - it needs no validation
        """A step is a feature made ready, or the fit of them all."""
        wanted = self._few_valued(rows.features)
        steps = rows.vectors.shape[1] + 1
        ready: list[Ready] = []
        for feature in range(steps - 1):
            ready.append(self._ready(_values(rows.vectors, feature), few_valued=feature in wanted))
            on_step(feature + 1, steps)
        columns = _columns(ready, rows.vectors)
        own = self.parameters
        model = Regression(C=own.C, max_iter=own.max_iter, tol=own.tol)
        with _one_thread():
            model.fit(columns, rows.is_fraud, sample_weight=rows.weights)
        on_step(steps, steps)
        return FittedLogisticRegression(
            learner=self,
            model=model,
            ready=ready,
            seen=[_seen(part, _values(rows.vectors, feature)) for feature, part in enumerate(ready)],
            spread=_spread(ready, columns, model.coef_[0]),
            params=msgspec.to_builtins(own),
        )

    def _few_valued(self, features: Sequence[str]) -> set[int]:
        named = self.parameters.one_hot
        if named is UNSET:
            return {features.index(name) for name in _FEW_VALUES if name in features}
        unknown = [name for name in named or () if name not in features]
        if unknown:
            raise WrongSettings(
                f"[learners.logistic-regression] one_hot names {', '.join(unknown)}, which is no feature"
            )
        return {features.index(name) for name in named or ()}

    def _ready(self, values: Floats, *, few_valued: bool) -> Ready:
        known = np.sort(values[~np.isnan(values)])
        if not known.size:
            return Stepped(edges=np.empty(0))
        if few_valued:
            several = np.unique(known)
            if several.size > _MOST_VALUES:
                raise WrongSettings(
                    f"[learners.logistic-regression] one_hot names a feature of {several.size} values; "
                    f"{_MOST_VALUES} are the most: leave it out, and it is a line or a staircase"
                )
            return Stepped(edges=(several[1:] + several[:-1]) / 2)
        middle, high = known[(known.size - 1) // 2], known[int(0.99 * (known.size - 1))]
        if self.parameters.stairs and known[0] >= 0 and high > _HEAVY * max(float(middle), 1.0):
            return _staircase(known, self.parameters.stairs, rows=values.size)
        cut = int(self.parameters.clip * (known.size - 1))
        lowest, highest = float(known[cut]), float(known[known.size - 1 - cut])
        all_known = np.clip(np.concatenate([known, np.full(values.size - known.size, middle)]), lowest, highest)
        deviation = float(all_known.std())
        return Line(
            lowest=lowest,
            highest=highest,
            middle=float(middle),
            mean=float(all_known.mean()),
            deviation=deviation or 1.0,
        )


def _staircase(known: Floats, steps: int, *, rows: int) -> Staircase:
    """Of sorted `known` values among so many `rows`, the logarithm's mean on each step, scaled over all rows."""
    edges = np.unique(known[np.linspace(0, known.size - 1, steps + 1).astype(np.int64)[1:-1]])
    edges = edges[edges < known[-1]]
    parts = _parts(edges, known)
    count = np.bincount(parts, minlength=edges.size + 1)
    logarithm = np.log1p(known)
    heights = np.bincount(parts, logarithm, edges.size + 1) / count
    heights = np.append(heights, np.log1p(known[(known.size - 1) // 2]))
    count = np.append(count, rows - known.size)
    mean = float((heights * count).sum() / rows)
    deviation = float(np.sqrt(((heights - mean) ** 2 * count).sum() / rows))
    return Staircase(edges=edges, heights=(heights - mean) / (deviation or 1.0))


@dataclass(frozen=True, kw_only=True)
class FittedLogisticRegression:
    """A regression and how its features are made ready."""

    learner: LogisticRegression
    model: Regression
    ready: list[Ready]
    seen: list[Floats]
    """Of each feature how many rows fell in each part, and how many lacked it; of a line its mean column and those."""
    spread: Floats
    params: dict[str, Any]

    tolerance = 1e-6
    uncalibrated = Calibration()

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> FittedLogisticRegression:
        return self.learner.fit(rows, rows, settings, on_step)

    def margins(self, vectors: Vectors) -> Floats:
        margins = np.empty(len(vectors), np.float64)
        for first in range(0, len(vectors), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            with _one_thread():
                margins[some] = self.model.decision_function(_columns(self.ready, vectors[some]))
        return margins

    def card(self) -> Card:
        params = {
            name: " ".join(value) if isinstance(value, tuple | list) else value for name, value in self.params.items()
        }
        return {"name": "logistic-regression", "version": sklearn.__version__, **params}

    def importance(self) -> Floats:
        """Each feature's share of how far the margin's parts deviate over the rows that it was fitted to [features]."""
        return shares(self.spread)

    def exported(self) -> Exported:
        start = float(self.model.intercept_[0])
        trees: list[pl.DataFrame] = []
        terms: list[tuple[int, float, float, float, float, float]] = []
        at = 0
        for feature, (ready, seen) in enumerate(zip(self.ready, self.seen, strict=True)):
            coefficients = self.model.coef_[0][at : at + ready.width]
            at += ready.width
            if isinstance(ready, Line):
                weight = float(coefficients[0]) / ready.deviation
                start -= weight * ready.mean
                missing = weight * ready.middle + float(coefficients[1])
                mean = float(seen @ coefficients) + weight * ready.mean
                terms.append((feature, weight, ready.lowest, ready.highest, missing, mean))
            elif isinstance(ready, Stepped):
                trees.append(_steps(feature, ready.edges, coefficients, seen))
            else:
                values = ready.heights * coefficients[0]
                values[-1] += coefficients[1]
                trees.append(_steps(feature, ready.edges, values, seen))
        linear = pl.DataFrame(terms, schema=LINEAR_COLUMNS, orient="row")
        return exported(after_another([constant(start), *trees]), linear, features=len(self.ready))


def _one_thread() -> threadpool_limits:
    """Several would add up in an order of their own, and another number of cores give another model."""
    return threadpool_limits(limits=1, user_api="blas")


def _values(vectors: Vectors, feature: int) -> Floats:
    return finite(vectors[:, feature]).astype(np.float64)


def _parts(edges: Floats, values: Floats) -> npt.NDArray[np.int64]:
    """Which part each of the `values` is in; edges.size + 1 for NaN."""
    return np.where(np.isnan(values), edges.size + 1, np.searchsorted(edges, values, side="left"))


def _columns(ready: Sequence[Ready], vectors: Vectors) -> Columns:
    """All that the regression is told of `vectors` [n, features]."""
    columns = np.empty((len(vectors), sum(part.width for part in ready)))
    at = 0
    for feature, part in enumerate(ready):
        columns[:, at : at + part.width] = part.columns(_values(vectors, feature))
        at += part.width
    return columns


def _seen(ready: Ready, values: Floats) -> Floats:
    if isinstance(ready, Stepped | Staircase):
        return np.bincount(_parts(ready.edges, values), minlength=ready.edges.size + 2).astype(np.float64)
    return np.asarray(ready.columns(values).mean(axis=0), np.float64)


def _spread(ready: Sequence[Ready], columns: Columns, coefficients: Floats) -> Floats:
    spread, at = np.empty(len(ready)), 0
    for feature, part in enumerate(ready):
        spread[feature] = (columns[:, at : at + part.width] @ coefficients[at : at + part.width]).std()
        at += part.width
    return spread


def _steps(feature: int, edges: Floats, values: Floats, seen: Floats) -> pl.DataFrame:
    """A tree (NODE_COLUMNS) with a leaf for each part of the numbers, balanced, and one for missing.

    `values` and `seen` [edges.size + 2]: of each part, and the last of what is missing.
    """
    nodes: list[list[float]] = []

    def grow(first: int, last: int) -> int:
        row = len(nodes)
        if first == last:
            nodes.append([0, -1, 0.0, 0, 0, 0, 0, values[first], seen[first]])
            return row
        middle = (first + last) // 2
        nodes.append([0, feature, edges[middle], 0, 0, 0, 0, 0.0, seen[first : last + 1].sum()])
        nodes[row][5] = grow(first, middle)
        nodes[row][6] = grow(middle + 1, last)
        return row

    # Only NaN is not at most +inf.
    nodes.append([0, feature, np.inf, 0, 0, 1, 0, 0.0, seen.sum()])
    grow(0, edges.size)
    nodes[0][6] = len(nodes)
    nodes.append([0, -1, 0.0, 0, 0, 0, 0, values[-1], seen[-1]])
    return pl.DataFrame(np.array(nodes), schema=list(NODE_COLUMNS), orient="row").cast(pl.Schema(NODE_COLUMNS))
