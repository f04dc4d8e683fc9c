"""The one form that every learner is exported to, and its ONNX graph, which answers what the learner answers.

    margin = the leaves that the vector falls in, one of each tree + the linear terms of its values

The usual converters round thresholds to float32: a row that sits on one lands in another leaf.  This graph is an
`ai.onnx.ml` v5 TreeEnsemble with double thresholds and leaves behind a Cast.  The leaves are summed in double precision
in the order of the trees, where ONNX Runtime has one thread (with more it adds up partial sums: `run` and the worker pin
it to one).  Linear terms, where there are any, are summed by a product with ones: in the order of the features, whatever
the number of rows.  How each learner comes to this form is told in training/learners.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from schemas.bundle import INPUT, OUTPUT, ZERO
from schemas.bundle_tables import LINEAR_COLUMNS, NODE_COLUMNS
from training.errors import NotExportable, ParityBroken

Vectors = npt.NDArray[np.float32]
Margins = npt.NDArray[np.float64]

_IR_VERSION, _OPSET, _ML_OPSET = 10, 18, 5
_BRANCH_LEQ = 0
_SUM, _NO_TRANSFORM = 1, 0
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model in the forms that a bundle holds."""

    graph: bytes
    """ONNX: `vectors` float32 [n, features] -> `margin` float64 [n, 1]."""
    trees: pl.DataFrame
    """schemas.bundle_tables.NODE_COLUMNS."""
    linear: pl.DataFrame
    """schemas.bundle_tables.LINEAR_COLUMNS; empty where all is in the trees."""
    base: float
    """The mean margin of the training rows, by the trees' covers and the terms' means: what contributions start from."""


NO_TERMS = pl.DataFrame(schema=LINEAR_COLUMNS)


def exported(trees: pl.DataFrame, linear: pl.DataFrame = NO_TERMS, *, features: int) -> Exported:
    """Of `trees` (NODE_COLUMNS) and `linear` terms over vectors of so many `features`; the same give the same bytes."""
    return Exported(
        graph=graph_of(trees, linear, features=features),
        trees=trees,
        linear=linear,
        base=base_of(trees) + math.fsum(linear["mean"].to_list()),
    )


def constant(value: float) -> pl.DataFrame:
    """A tree (NODE_COLUMNS) that is one leaf."""
    values = (0, -1, 0.0, False, False, 0, 0, value, 1.0)
    return pl.DataFrame([values], schema=NODE_COLUMNS, orient="row")


def after_another(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All trees of these tables (NODE_COLUMNS) as one."""
    parts, trees, nodes = [], 0, 0
    for table in tables:
        is_split = pl.col("feature") >= 0
        parts.append(
            table.with_columns(
                pl.col("tree") + trees,
                *(pl.when(is_split).then(pl.col(side) + nodes).otherwise(0).alias(side) for side in ("left", "right")),
            ).cast(pl.Schema(NODE_COLUMNS))
        )
        trees += int(table["tree"][-1]) + 1
        nodes += table.height
    return pl.concat(parts)


def base_of(trees: pl.DataFrame) -> float:
    """The sum over the trees of their leaves' mean, weighted by cover."""
    leaves = trees.filter(pl.col("feature") < 0)
    means = leaves.group_by("tree", maintain_order=True).agg(
        (pl.col("value") * pl.col("cover")).sum() / pl.col("cover").sum()
    )
    return math.fsum(means["value"].to_list())


def graph_of(trees: pl.DataFrame, linear: pl.DataFrame = NO_TERMS, *, features: int) -> bytes:
    """The serialised ONNX model of `trees` (NODE_COLUMNS) and `linear` terms over vectors of so many `features`.

    Raises NotExportable for linear terms beside trees to which zeros are missing.
    """
    tree = trees["tree"].to_numpy()
    feature = trees["feature"].to_numpy()
    left, right = trees["left"].to_numpy(), trees["right"].to_numpy()
    is_leaf = feature < 0

    # The operator numbers splits and leaves apart.  A tree that is one leaf becomes a split whose answers are the same.
    is_root = np.concatenate([[True], tree[1:] != tree[:-1]])
    is_split = ~is_leaf | is_root
    split_number = np.cumsum(is_split) - 1
    leaf_number = np.cumsum(is_leaf) - 1
    own = np.arange(tree.size)
    on_true, on_false = np.where(is_leaf, own, left)[is_split], np.where(is_leaf, own, right)[is_split]
    number = np.where(is_leaf, leaf_number, split_number)

    ensemble = helper.make_node(
        "TreeEnsemble",
        ["numbers"],
        [OUTPUT if linear.is_empty() else "of_trees"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=_NO_TRANSFORM,
        tree_roots=split_number[is_root].tolist(),
        nodes_featureids=np.maximum(feature, 0)[is_split].tolist(),
        nodes_modes=_tensor("modes", np.full(int(is_split.sum()), _BRANCH_LEQ, np.uint8)),
        nodes_splits=_tensor("splits", trees["threshold"].to_numpy()[is_split]),
        nodes_missing_value_tracks_true=trees["missing_left"].to_numpy()[is_split].astype(np.int64).tolist(),
        nodes_truenodeids=number[on_true].tolist(),
        nodes_trueleafs=is_leaf[on_true].astype(np.int64).tolist(),
        nodes_falsenodeids=number[on_false].tolist(),
        nodes_falseleafs=is_leaf[on_false].astype(np.int64).tolist(),
        leaf_targetids=[0] * int(is_leaf.sum()),
        leaf_weights=_tensor("weights", trees["value"].to_numpy()[is_leaf]),
    )
    before, constants, cleaned = _zeros_made_missing(trees, features)
    if before and not linear.is_empty():
        raise NotExportable(
            "zeros are missing to the trees and numbers to the linear terms: train without zero_as_missing"
        )
    beside, terms = _linear(linear, features)
    graph = helper.make_graph(
        [*before, helper.make_node("Cast", [cleaned], ["numbers"], to=TensorProto.DOUBLE), ensemble, *beside],
        "margins",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, 1])],
        constants + terms,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
        ir_version=_IR_VERSION,
    )
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _linear(linear: pl.DataFrame, features: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Operators that add the terms to what the trees say, and their constants; none where there are no terms."""
    if linear.is_empty():
        return [], []
    rows: dict[str, npt.NDArray[np.float64]] = {}
    for name in ("weight", "lowest", "highest", "missing"):
        rows[name] = np.zeros((1, features))
        rows[name][0, linear["feature"].to_numpy()] = linear[name].to_numpy()
    nodes = [
        helper.make_node("Max", ["numbers", "lowest"], ["not_below"]),
        helper.make_node("Min", ["not_below", "highest"], ["within"]),
        helper.make_node("Mul", ["within", "weight"], ["weighed"]),
        helper.make_node("IsNaN", ["numbers"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "missing", "weighed"], ["terms"]),
        helper.make_node("MatMul", ["terms", "ones"], ["of_terms"]),
        helper.make_node("Add", ["of_trees", "of_terms"], [OUTPUT]),
    ]
    return nodes, [*(_tensor(name, row) for name, row in rows.items()), _tensor("ones", np.ones((features, 1)))]


def _zeros_made_missing(trees: pl.DataFrame, features: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """Operators ahead of the trees, their constants, and the name of what they leave; none where zeros are numbers."""
    which = np.zeros(features, bool)
    which[trees.filter("zero_is_missing")["feature"].unique().to_numpy()] = True
    if not which.any():
        return [], [], INPUT
    nodes = [
        helper.make_node("Abs", [INPUT], ["size"]),
        helper.make_node("LessOrEqual", ["size", "zero"], ["is_zero"]),
        helper.make_node("And", ["is_zero", "zero_is_missing"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "missing", INPUT], ["cleaned"]),
    ]
    constants = [
        _tensor("zero", np.array([ZERO], np.float32)),
        _tensor("zero_is_missing", which),
        _tensor("missing", np.array([np.nan], np.float32)),
    ]
    return nodes, constants, "cleaned"


def _tensor(name: str, values: npt.NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def session_of(graph: bytes) -> ort.InferenceSession:
    """As the worker has one: with one thread.  Raises what ONNX Runtime raises where it is no graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(graph: bytes, vectors: Vectors) -> Margins:
    """The graph's margins [n] of `vectors` [n, features], computed as the worker computes them."""
    session = session_of(graph)
    margins = np.empty(len(vectors), np.float64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        margins[rows] = session.run([OUTPUT], {INPUT: np.ascontiguousarray(vectors[rows], np.float32)})[0][:, 0]
    return margins


def require_parity(graph: bytes, vectors: Vectors, margins: Margins, *, tolerance: float = 0.0) -> Margins:
    """Holds the graph to the learner's own `margins` [n] of `vectors` [n, features]; gives the graph's.

    Raises ParityBroken where one is further off than `tolerance`; for 0, unless every bit of every margin is the same.
    """
    answered = run(graph, vectors)
    if tolerance:
        different = np.flatnonzero(~(np.abs(answered - margins) <= tolerance))
    else:
        different = np.flatnonzero(answered.view(np.int64) != margins.view(np.int64))
    if different.size:
        first = int(different[0])
        raise ParityBroken(
            f"{different.size} of {len(margins)} margins differ between the ONNX graph and the learner"
            f"{f' by more than {tolerance:g}' if tolerance else ''}, the first in "
            f"row {first}: {float(answered[first])!r} against {float(margins[first])!r}; nothing was written"
        )
    return answered
