"""What must hold of a bundle's tables of trees and linear terms before compiled code walks them: it checks no bounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.bundle import LINEAR, TREES
from schemas.bundle_tables import LINEAR_COLUMNS, NODE_COLUMNS
from schemas.errors import UnusableModel

MOST_ROWS = 20_000_000
"""Of a bundle's tables: a small file may hold many."""
MOST_DEPTH = 4_000
"""Splits on one way."""

Ints = npt.NDArray[np.int64]


def require_trees(table: pl.DataFrame, features: int, bundle: str) -> None:
    """Raises UnusableModel where these are no trees over vectors of so many `features`."""

    def require(holds: npt.NDArray[np.bool_] | bool, what: str) -> None:
        if not np.all(holds):
            row = f" (row {int(np.flatnonzero(~holds)[0])})" if isinstance(holds, np.ndarray) else ""
            raise UnusableModel(f"bundle {bundle}: {TREES} {what}{row}; train it again")

    require(dict(table.schema) == NODE_COLUMNS, f"must have the columns {', '.join(NODE_COLUMNS)}")
    require(0 < table.height <= MOST_ROWS, f"has {table.height:,} rows: 1 to {MOST_ROWS:,} are read")
    require(table.null_count().sum_horizontal().item() == 0, "has values that are missing")
    tree, feature, left, right = (
        table[name].to_numpy().astype(np.int64) for name in ("tree", "feature", "left", "right")
    )
    row = np.arange(table.height)
    require(np.diff(tree, prepend=tree[0]) >= 0, "has its trees mixed")
    split = feature >= 0
    require((feature >= -1) & (feature < features), f"asks for a feature that none of the {features} is")
    for child in (left, right):
        require(~split | ((child > row) & (child < table.height)), "has a child that is no row behind its parent")
        require(~split | (tree[np.where(split, child, row)] == tree), "has a child in another tree")
    roots = np.diff(tree, prepend=tree[0] - 1) > 0
    parents = np.bincount(np.concatenate([left[split], right[split]]), minlength=table.height)
    require(parents == np.where(roots, 0, 1), "has a node with another number of parents than one, or a root with any")
    for name in ("threshold", "value", "cover"):
        numbers = table[name].to_numpy()
        used = split if name == "threshold" else ~split if name == "value" else np.ones(len(row), bool)
        require(
            ~used | (~np.isnan(numbers) if name == "threshold" else np.isfinite(numbers)), f"has a {name} that is none"
        )
    require(table["cover"].to_numpy() >= 0, "has a cover below 0")
    require(_depth(split, left, right, roots) <= MOST_DEPTH, f"has a way of more than {MOST_DEPTH:,} splits")


def _depth(split: npt.NDArray[np.bool_], left: Ints, right: Ints, roots: npt.NDArray[np.bool_]) -> int:
    """Splits on the longest way, as far as one more than MOST_DEPTH."""
    at = np.flatnonzero(roots & split)
    depth = 0
    while at.size and depth <= MOST_DEPTH:
        depth += 1
        below = np.concatenate([left[at], right[at]])
        at = below[split[below]]
    return depth


def require_linear(table: pl.DataFrame, features: int, bundle: str) -> None:
    """Raises UnusableModel where these are no linear terms over vectors of so many `features`."""
    sound = dict(table.schema) == LINEAR_COLUMNS and table.null_count().sum_horizontal().item() == 0
    if sound:
        column, numbers = table["feature"].to_numpy(), table.drop("feature").to_numpy()
        inside = (column >= 0) & (column < features)
        sound = bool(inside.all() and len(np.unique(column)) == len(column) and not np.isnan(numbers).any())
    if not sound:
        raise UnusableModel(
            f"bundle {bundle}: {LINEAR} must have the columns {', '.join(LINEAR_COLUMNS)}, all of them numbers, and each of "
            f"the {features} features at most once; train it again"
        )
