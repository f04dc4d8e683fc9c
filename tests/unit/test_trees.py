"""Compiled code walks a bundle's trees without looking where it treads: what is no tree is refused before."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from schemas.bundle_tables import LINEAR_COLUMNS, NODE_COLUMNS
from schemas.errors import UnusableModel
from schemas.trees import MOST_DEPTH, require_linear, require_trees

FEATURES = 3
SOUND: dict[str, list[Any]] = {
    "tree": [0, 0, 0, 1, 2, 2, 2],
    "feature": [2, -1, -1, -1, 0, -1, -1],
    "threshold": [0.5, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0],
    "missing_left": [True] * 7,
    "zero_is_missing": [False] * 7,
    "left": [1, 0, 0, 0, 5, 0, 0],
    "right": [2, 0, 0, 0, 6, 0, 0],
    "value": [0.0, 0.1, 0.2, 0.3, 0.0, 0.4, 0.5],
    "cover": [10.0, 4.0, 6.0, 10.0, 10.0, 0.0, 10.0],
}
NAN = float("nan")


def trees(**changed: tuple[int, Any]) -> pl.DataFrame:
    columns = {name: list(values) for name, values in SOUND.items()}
    for name, (row, value) in changed.items():
        columns[name][row] = value
    return pl.DataFrame(columns, schema=NODE_COLUMNS)


def test_three_small_trees_are_trees() -> None:
    require_trees(trees(), FEATURES, "b")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"left": (0, 7)}, "no row behind its parent"),
        ({"right": (0, 1_000_000_000)}, "no row behind its parent"),
        ({"left": (4, -1)}, "no row behind its parent"),
        ({"left": (4, 4)}, "no row behind its parent"),
        ({"left": (4, 0)}, "no row behind its parent"),
        ({"left": (0, 5)}, "in another tree"),
        ({"right": (0, 1)}, "another number of parents"),
        ({"feature": (1, 1), "left": (1, 2), "right": (1, 2)}, "another number of parents"),
        ({"feature": (0, 3)}, "a feature that none"),
        ({"feature": (0, -2)}, "a feature that none"),
        ({"feature": (0, -1)}, "another number of parents"),
        ({"tree": (3, 0)}, "another number of parents"),
        ({"tree": (6, 0)}, "mixed"),
        ({"threshold": (0, NAN)}, "a threshold that is none"),
        ({"value": (1, NAN)}, "a value that is none"),
        ({"value": (1, float("inf"))}, "a value that is none"),
        ({"cover": (0, NAN)}, "a cover that is none"),
        ({"cover": (0, float("inf"))}, "a cover that is none"),
        ({"cover": (0, -1.0)}, "a cover below 0"),
        ({"left": (0, None)}, "missing"),
    ],
)
def test_what_is_no_tree_is_refused_by_name(changed: dict[str, tuple[int, Any]], says: str) -> None:
    with pytest.raises(UnusableModel, match=f"bundle b: .*{says}"):
        require_trees(trees(**changed), FEATURES, "b")


def test_no_trees_at_all_other_columns_and_endless_ways_are_refused() -> None:
    with pytest.raises(UnusableModel, match="0 rows"):
        require_trees(trees().clear(), FEATURES, "b")
    with pytest.raises(UnusableModel, match="columns"):
        require_trees(trees().with_columns(pl.col("left").cast(pl.Int64)), FEATURES, "b")
    splits = MOST_DEPTH + 1
    chain = pl.DataFrame(
        {
            "tree": [0] * (2 * splits + 1),
            "feature": [0, -1] * splits + [-1],
            "threshold": 0.0,
            "missing_left": True,
            "zero_is_missing": False,
            "left": [n for split in range(splits) for n in (2 * split + 1, 0)] + [0],
            "right": [n for split in range(splits) for n in (2 * split + 2, 0)] + [0],
            "value": 0.0,
            "cover": 1.0,
        },
        schema=NODE_COLUMNS,
    )
    with pytest.raises(UnusableModel, match="a way of more than"):
        require_trees(chain, FEATURES, "b")


@pytest.mark.parametrize("features", [[3], [-1], [0, 0], [None]])
def test_linear_terms_of_features_that_are_none_are_refused(features: list[int | None]) -> None:
    table = pl.DataFrame({"feature": features}).with_columns(
        pl.lit(1.0).alias(n) for n in LINEAR_COLUMNS if n != "feature"
    )
    with pytest.raises(UnusableModel, match="at most once"):
        require_linear(table.cast(dict(LINEAR_COLUMNS)), FEATURES, "b")  # type: ignore[arg-type]
