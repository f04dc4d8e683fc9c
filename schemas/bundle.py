"""What a model bundle is: one immutable folder, named by its digest.

    <digest>/model.onnx       float32 vectors [n, features] -> `margin`, float64 [n, 1]
    <digest>/bundle.json      the Manifest
    <digest>/attributes.json  the encoding of the columns behind the catalogue's (features/attributes.py)
    <digest>/trees.parquet    the same trees with their covers (schemas/bundle_tables.py): what reasons are computed from
    <digest>/linear.parquet   what is linear in the margin (the same); absent where nothing is
    <digest>/golden.parquet   a column for each feature (float32) and `margin` (float64): what the graph must answer
    <digest>/evaluation.html  how well it does

The margin is additive: the leaves that a vector falls in, one of each tree, and the linear terms of its values; so every
learner's bundle is served and explained alike.  The evaluation is for people and not part of the digest.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec

from schemas.verdict import Outcome

MODEL, MANIFEST, TREES, GOLDEN = "model.onnx", "bundle.json", "trees.parquet", "golden.parquet"
LINEAR, ATTRIBUTES = "linear.parquet", "attributes.json"
EVALUATION = "evaluation.html"
DIGESTED = (MODEL, MANIFEST, ATTRIBUTES, TREES, GOLDEN)
"""What every bundle has; LINEAR is digested behind them."""
CURRENT = "current"
"""Beside the bundles: a link to the one in use."""
FORMAT = 2
MOST_BYTES = 256 * 1024 * 1024
"""Of a bundle's files together: larger ones are refused unread.  400 trees of 15 leaves take one hundredth of it."""

BUNDLE_TAG, CATALOGUE_TAG = "fraud.bundle", "fraud.catalogue"
"""What a version of the registered model is tagged with: its digest, and its catalogue's."""

INPUT, OUTPUT = "vectors", "margin"
"""The graph's."""

ZERO = 1.0000000180025095e-35
"""What is no further from 0 than this is 0 to LightGBM; the float32 next to 1e-35."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Of the score: at `review` and above somebody looks at it, at `decline` and above it is declined."""

    review: float
    decline: float

    def __post_init__(self) -> None:
        if not 0 <= self.review <= self.decline:
            raise ValueError(f"0 <= review <= decline must hold, not review={self.review}, decline={self.decline}")

    def judge(self, score: float) -> Outcome:
        """The outcome of a transaction with this score."""
        if score >= self.decline:
            return Outcome.DECLINE
        return Outcome.REVIEW if score >= self.review else Outcome.APPROVE

    def digest(self) -> str:
        """Names this policy in every verdict."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a margin a probability of fraud.

    Platt's, the logistic function of `slope` * margin + `intercept`; where there are `margins`, an isotonic one instead:
    the straight lines between the points (margins[i], scores[i]), level beyond the first and the last.
    """

    slope: float = 1.0
    intercept: float = 0.0
    margins: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET
    """They rise."""
    scores: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET
    """They don't fall."""

    def __post_init__(self) -> None:
        if self.margins is msgspec.UNSET and self.scores is msgspec.UNSET:
            return
        margins, scores = self.margins or (), self.scores or ()
        if not margins or len(margins) != len(scores):
            raise ValueError(f"a score for each margin must there be, not {len(scores)} for {len(margins)}")
        if any(a >= b for a, b in pairwise(margins)) or any(a > b for a, b in pairwise(scores)):
            raise ValueError("margins must rise, and scores not fall")
        if not 0 <= scores[0] <= scores[-1] <= 1:
            raise ValueError("scores must be from 0 to 1")

    @property
    def probability(self) -> Callable[[float], float]:
        """Score of a margin.

        >>> Calibration().probability(0.0)
        0.5
        >>> Calibration(margins=(-1.0, 1.0), scores=(0.0, 0.5)).probability(0.0)
        0.25
        """
        return self._logistic if self.margins is msgspec.UNSET else self._between

    def _logistic(self, margin: float) -> float:
        z = self.slope * margin + self.intercept
        return 1 / (1 + math.exp(-z)) if z > -700 else 0.0

    def _between(self, margin: float) -> float:
        margins, scores = self.margins or (), self.scores or ()
        above = bisect_right(margins, margin)
        if above in (0, len(margins)):
            return scores[above and -1]
        x, y = margins[above - 1], scores[above - 1]
        return y + (scores[above] - y) * ((margin - x) / (margins[above] - x))


class EncodedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a transaction (schemas.tables) that is encoded beside the catalogue."""

    column: str
    encoding: str
    """`number` or `category`."""
    features: tuple[str, ...]
    """What the model's input calls it."""
    digest: str
    """Of the encoding, its tables included: 16 hex digits of SHA-256."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle.json`."""

    format: int
    catalogue: str
    """Digest of the feature catalogue that the model was made for (features.catalogue.DIGEST)."""
    features: tuple[str, ...]
    """The names of the graph's input columns, in order: the catalogue's, and behind them those of `attributes`."""
    attributes: tuple[EncodedColumn, ...] = ()
    """What `attributes.json` encodes, in order."""
    left_out: dict[str, str] = {}
    """Columns that the training had and did not use, each with why."""
    thresholds: Thresholds
    thresholds_by: dict[str, str | float] = {}
    """How they were chosen: the `policy`, and the bounds or costs that it went by.  Absent in older bundles."""
    calibration: Calibration
    learner: dict[str, str | int | float | bool | None]
    """Name and parameters."""
    trained: dict[str, str | int | float]
    """On what: rows, frauds, from, until, seed, and the currency of the vectors' amounts."""
    learnt_from: tuple[str, ...] = ()
    """Marks of transactions of the past that it was learnt from, by a secret key (training.origin).  Absent in
    older bundles, and where there was no key."""
    metrics: dict[str, float]
    """On the validation rows, which lie after the training rows."""
    base: float = 0.0
    """The margin of nobody in particular: what the contributions are added to."""
    usual: dict[str, float | None] = {}
    """By feature: the median of the legitimate training rows that have it; None: most have not.  Absent in older bundles."""


def digest_of(folder: Path) -> str:
    """The name that a bundle with these files must have: 16 hex digits of SHA-256 over DIGESTED, and LINEAR if there.

    Raises FileNotFoundError where one is missing.
    """
    digest = hashlib.sha256()
    for name in (*DIGESTED, LINEAR) if (folder / LINEAR).exists() else DIGESTED:
        content = (folder / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def make_current(folder: Path) -> Path:
    """The link CURRENT beside the bundle, moved to it at once: who reads it sees the old bundle or the new one.

    Raises OSError.
    """
    link = folder.parent / CURRENT
    draft = folder.parent / f".{CURRENT}-{secrets.token_hex(8)}"
    draft.symlink_to(folder.name)
    try:
        draft.replace(link)
    except OSError:
        draft.unlink()
        raise
    return link
