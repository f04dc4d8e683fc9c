"""What a model bundle is: one immutable folder, named by its digest.

    <digest>/model.onnx       float32 vectors [n, features] -> `margin`, float64 [n, 1]
    <digest>/bundle.json      the Manifest
    <digest>/golden.parquet   a column for each feature (float32) and `margin` (float64): what the graph must answer
    <digest>/evaluation.html  how well it does; for people, not part of the digest
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec

from schemas.verdict import Outcome

MODEL, MANIFEST, GOLDEN, EVALUATION = "model.onnx", "bundle.json", "golden.parquet", "evaluation.html"
FORMAT = 1


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
    """Platt's: the probability of fraud is the logistic function of `slope` * margin + `intercept`."""

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, margin: float) -> float:
        """
        >>> Calibration().probability(0.0)
        0.5
        """
        z = self.slope * margin + self.intercept
        return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle.json`."""

    format: int
    catalogue: str
    """Digest of the feature catalogue that the model was made for (features.catalogue.DIGEST)."""
    features: tuple[str, ...]
    """The names of the graph's input columns, in order."""
    thresholds: Thresholds
    calibration: Calibration
    learner: dict[str, str | int | float | bool | None]
    """Name and parameters."""
    trained: dict[str, str | int | float]
    """On what: rows, frauds, from, until, seed."""
    metrics: dict[str, float]
    """On the validation rows, which lie after the training rows."""
    base: float = 0.0
    """The margin of nobody in particular: what the contributions are added to."""


def digest_of(folder: Path) -> str:
    """The name that a bundle with these files must have: 16 hex digits of SHA-256 over graph, manifest, golden rows."""
    digest = hashlib.sha256()
    for name in (MODEL, MANIFEST, GOLDEN):
        content = (folder / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
