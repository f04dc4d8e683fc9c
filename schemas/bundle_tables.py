"""The tables in a bundle, by column."""

from __future__ import annotations

import polars as pl

NODE_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "tree": pl.Int32,
    "feature": pl.Int32,  # the column of the vector that is asked; -1: a leaf
    "threshold": pl.Float64,  # vector[feature] <= threshold goes left
    "missing_left": pl.Boolean,  # whether NaN goes left
    "zero_is_missing": pl.Boolean,  # whether |x| <= ZERO goes where NaN goes
    "left": pl.Int32,  # rows of this table; 0 in a leaf
    "right": pl.Int32,
    "value": pl.Float64,  # a leaf's part of the margin; 0 in the others
    "cover": pl.Float64,  # training rows that came by
}
"""`trees.parquet`: a row for each node, tree after tree, in each the parent before its children."""

LINEAR_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "feature": pl.Int32,  # the column of the vector; each at most once
    "weight": pl.Float64,
    "lowest": pl.Float64,  # the term is weight * vector[feature], cut to lowest ... highest
    "highest": pl.Float64,
    "missing": pl.Float64,  # the term where the value is NaN
    "mean": pl.Float64,  # of the term over the training rows: what its contribution is counted from
}
"""`linear.parquet`: a row for each linear term of the margin."""
