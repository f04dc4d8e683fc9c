"""Exact TreeSHAP (path-dependent: what LightGBM's `pred_contrib` gives) of one row in a fraction of a millisecond.

A leaf answers with its value if the row goes its whole way; where a feature is unknown, each of its splits on the way lets
a share of the rows through, as the training rows did (the covers).  The leaf's part of the margin, if every feature is
known with probability t, is therefore a product over the features on its way,

    value * Π (w + (o - w) t)        w: the product of the feature's shares; o: 1 if the row satisfies all its splits, else 0

and the contribution of feature i the integral over t from 0 to 1 of the derivative in i's own probability,

    value * (o_i - w_i) * ∫ Π_{j≠i} (w_j + (o_j - w_j) t) dt

(Owen 1972).  The integrand is a polynomial of a lower degree than there are features on the way, so Gauss-Legendre
quadrature with eight points is exact up to sixteen of them, and so on.  At one point t the products of all leaves
follow from one walk down the tree and the sums of all contributions from one walk up: the linear time of Linear TreeSHAP
(Yu et al. 2022), the eight points side by side as in Quadrature-TreeSHAP (Wettenstein, Mitchell and Yu 2026).  All factors
are positive, nothing cancels: it is more accurate than the recursion with its unwinding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from schemas.bundle import ZERO

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LANES = 8
"""Points of the quadrature that are computed side by side."""


class Forest(NamedTuple):
    """The splits of all trees, tree after tree, each before those below it; nodes are numbered within their tree, root 0."""

    first: Ints
    """[trees + 1]: where each tree's splits begin."""
    node: Ints
    feature: Ints
    threshold: Floats
    missing_left: Bools
    zero_is_missing: Bools
    above: Ints
    """The node that the last split above by the same feature led to, on the way here; the root where there is none."""
    left: Ints
    right: Ints
    share: Floats
    """[splits, 2]: w of the left and of the right child's way, for this split's feature."""
    value: Floats
    """[splits, 2]: of the left and of the right child if it is a leaf, else 1."""
    nodes: int
    """Of the largest tree."""
    longest: int
    """Features asked on one way, at most."""


def forest_of(trees: pl.DataFrame) -> Forest:
    """From the table in a bundle (schemas.bundle_tables.NODE_COLUMNS)."""
    tree, feature = (trees[name].to_numpy().astype(np.int64) for name in ("tree", "feature"))
    left, right = (trees[name].to_numpy().astype(np.int64) for name in ("left", "right"))
    above, share, asked = _ways(feature, left, right, trees["cover"].to_numpy())
    is_split = feature >= 0
    starts = np.flatnonzero(np.diff(tree, prepend=-1))
    sizes = np.diff(starts, append=tree.size)
    within = np.arange(tree.size) - np.repeat(starts, sizes)
    left, right = left[is_split], right[is_split]
    value = np.where(is_split, 1.0, trees["value"].to_numpy())
    return Forest(
        first=np.append(0, np.cumsum(np.add.reduceat(is_split.astype(np.int64), starts))),
        node=within[is_split],
        feature=feature[is_split],
        threshold=trees["threshold"].to_numpy()[is_split],
        missing_left=trees["missing_left"].to_numpy()[is_split],
        zero_is_missing=trees["zero_is_missing"].to_numpy()[is_split],
        above=np.where(above[left] < 0, 0, within[above[left]]),
        left=within[left],
        right=within[right],
        share=np.stack([share[left], share[right]], axis=1),
        value=np.stack([value[left], value[right]], axis=1),
        nodes=int(sizes.max()),
        longest=int(asked.max()),
    )


def quadrature(longest: int) -> tuple[Floats, Floats]:
    """Points in (0, 1) and weights, [passes, LANES] each: exact for so many features on one way."""
    passes = max(1, -(-longest // (2 * LANES)))
    points, weights = np.polynomial.legendre.leggauss(passes * LANES)
    return ((points + 1) / 2).reshape(passes, LANES), (weights / 2).reshape(passes, LANES)


@njit(cache=True, nogil=True)
def _ways(feature: Ints, left: Ints, right: Ints, cover: Floats) -> tuple[Ints, Floats, Ints]:
    """For every node: the node that the last split above by the same feature led to, or -1; w; features on the way."""
    parent = np.full(feature.size, -1, np.int64)
    above = np.full(feature.size, -1, np.int64)
    share = np.ones(feature.size)
    asked = np.zeros(feature.size, np.int64)
    for i in range(feature.size):
        if feature[i] < 0:
            continue
        before = i
        while parent[before] >= 0 and feature[parent[before]] != feature[i]:
            before = parent[before]
        for child in (left[i], right[i]):
            parent[child] = i
            # A leaf that no row reached would make a factor 0, and 0/0 of it: as good as none is enough.
            share[child] = max(cover[child], 1e-9) / max(cover[i], 1e-9)
            asked[child] = asked[i] + 1
            if parent[before] >= 0:
                above[child] = before
                share[child] *= share[before]
                asked[child] = asked[i]
    return above, share, asked


# LLVM's loop vectoriser leaves loops over eight lanes in scratch arrays that may overlap as they are, or guards each with
# checks that cost more than the loop.  So the two steps of the walk are written in vectors: twice as fast.  (To numba an
# intrinsic is a function of its arguments' types that returns how to generate code: what it is called with is in
# `arguments`, which is why linter and type checker find names unused and one too many.)
# ruff: noqa: ARG001

_DOUBLE = ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_FUSED = ("contract",)


class _Rows:
    """The rows of a C-contiguous array [n, LANES], each as one vector."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self._builder = builder
        self._data = context.make_array(kind)(context, builder, array).data

    def _at(self, row: Any) -> Any:
        offset = self._builder.mul(row, ir.Constant(row.type, LANES))
        return self._builder.bitcast(self._builder.gep(self._data, [offset]), _VECTOR.as_pointer())

    def __getitem__(self, row: Any) -> Any:
        return self._builder.load(self._at(row), align=8)

    def __setitem__(self, row: Any, lanes: Any) -> None:
        self._builder.store(lanes, self._at(row), align=8)


def _in_all_lanes(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


@intrinsic
def _down(
    _: Any, product: Any, inverse: Any, points: Any, node: Any, above: Any, yes: Any, no: Any,
    w_yes: Any, d_yes: Any, value_yes: Any, w_no: Any, value_no: Any,
) -> Any:  # fmt: skip
    """From a node to the child that the row goes to, `yes`, and the other, `no`.

    Fills for both `product`, of all factors on the way and the value, and `inverse`, 1 / the last feature's factor, which
    is w + d t for `yes`, where d is o - w (a split above may have made o 0), and w - w t for `no`.  `above`: the node of
    the same feature's last factor, which the new one replaces.  `points`: rows of t, 1 - t and 1 / (1 - t).
    """
    number, index = types.float64, types.int64
    signature = types.void(product, inverse, points, index, index, index, index, number, number, number, number, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        products, inverses, at = (_Rows(context, builder, signature.args[i], arguments[i]) for i in range(3))
        node, above, yes, no, *numbers = arguments[3:]
        w_yes, d_yes, value_yes, w_no, value_no = (_in_all_lanes(builder, number) for number in numbers)
        t, rest, inverse_rest = (at[ir.Constant(ir.IntType(64), row)] for row in range(3))
        one = ir.Constant(_VECTOR, [1.0] * LANES)

        before = builder.fmul(products[node], inverses[above])
        factor = builder.fadd(w_yes, builder.fmul(d_yes, t, flags=_FUSED), flags=_FUSED)
        products[yes] = builder.fmul(before, builder.fmul(factor, value_yes))
        products[no] = builder.fmul(before, builder.fmul(builder.fmul(w_no, value_no), rest))
        inverses[yes] = builder.fdiv(one, factor)
        inverses[no] = builder.fmul(builder.fdiv(one, w_no), inverse_rest)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _up(
    _: Any, product: Any, inverse: Any, points: Any, contribution: Any, feature: Any, node: Any, above: Any, yes: Any,
    no: Any, d_yes: Any, d_above: Any,
) -> Any:  # fmt: skip
    """Back from both children: `product` of the node becomes the sum of the leaves below it.

    Adds to row `feature` of `contribution` what its factors in the leaves below say, in place of what the last one above
    would have said of them.
    """
    number, index = types.float64, types.int64
    signature = types.void(product, inverse, points, contribution, index, index, index, index, index, number, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, inverses, at, contributions = (_Rows(context, builder, signature.args[i], arguments[i]) for i in range(4))
        feature, node, above, yes, no, d_yes, d_above = arguments[4:]
        inverse_rest = at[ir.Constant(ir.IntType(64), 2)]  # of `no`: (0 - w) / (w - w t) is -1 / (1 - t)

        below_yes, below_no = sums[yes], sums[no]
        below = builder.fadd(below_yes, below_no)
        said = builder.fmul(below_yes, builder.fmul(_in_all_lanes(builder, d_yes), inverses[yes]))
        said = builder.fsub(said, builder.fmul(below_no, inverse_rest))
        replaced = builder.fmul(below, builder.fmul(_in_all_lanes(builder, d_above), inverses[above]))
        contributions[feature] = builder.fadd(contributions[feature], builder.fsub(said, replaced))
        sums[node] = below
        return context.get_dummy_value()

    return signature, generate


@njit(cache=True, nogil=True)
def _aligned(rows: int) -> Floats:
    """Uninitialised [rows, LANES], each row in a cache line of its own."""
    raw = np.empty((rows + 1) * LANES)
    skipped = (-raw.ctypes.data) % (8 * LANES) // 8
    return raw[skipped : skipped + rows * LANES].reshape(rows, LANES)


@njit(cache=True, nogil=True, error_model="numpy")
def explain(vectors: npt.NDArray[np.float32], forest: Forest, points: Floats, weights: Floats, out: Floats) -> None:
    """Writes to `out` [n, features] how much each feature adds to the margin of `vectors` [n, features].

    `points` and `weights`: quadrature(forest.longest).  The sum over the features is the margin less the base.
    """
    product, inverse = _aligned(forest.nodes), _aligned(forest.nodes)
    contribution = _aligned(vectors.shape[1])
    at = _aligned(3)
    d = np.empty(forest.nodes)
    went = np.empty(forest.nodes, np.int64)
    inverse[0] = 1.0
    d[0] = 0.0
    for row in range(vectors.shape[0]):
        contribution[:] = 0.0
        for lanes in range(points.shape[0]):
            at[0] = points[lanes]
            at[1] = 1 - points[lanes]
            at[2] = 1 / (1 - points[lanes])
            for tree in range(forest.first.size - 1):
                first, after = forest.first[tree], forest.first[tree + 1]
                product[0] = weights[lanes]
                for split in range(first, after):
                    x = vectors[row, forest.feature[split]]
                    missing = np.isnan(x) | (forest.zero_is_missing[split] & (abs(x) <= ZERO))
                    # No branches: half of them would be mispredicted.
                    goes_left = (x <= forest.threshold[split]) & (not missing) | forest.missing_left[split] & missing
                    side = 0 if goes_left else 1
                    left, right, above = forest.left[split], forest.right[split], forest.above[split]
                    yes = left if goes_left else right
                    no = left + right - yes
                    w, other = forest.share[split, side], forest.share[split, 1 - side]
                    o = 1.0 if d[above] >= 0 else 0.0
                    d[yes], d[no] = o - w, -other
                    went[split - first] = yes
                    _down(  # type: ignore[call-arg]
                        product, inverse, at, forest.node[split], above, yes, no,
                        w, o - w, forest.value[split, side], other, forest.value[split, 1 - side],
                    )  # fmt: skip
                for split in range(after - 1, first - 1, -1):
                    yes, above = went[split - first], forest.above[split]
                    no = forest.left[split] + forest.right[split] - yes
                    _up(  # type: ignore[call-arg]
                        product, inverse, at, contribution, forest.feature[split], forest.node[split], above, yes, no,
                        d[yes], d[above],
                    )  # fmt: skip
        for feature in range(vectors.shape[1]):
            out[row, feature] = contribution[feature].sum()
