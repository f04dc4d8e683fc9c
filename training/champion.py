"""The model in use, asked about the rows that a new one is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from features.attributes import Encoder
from features.catalogue import DIGEST, FEATURES
from schemas.bundle import CURRENT, FORMAT, MANIFEST, MODEL, Manifest
from schemas.errors import UnusableModel
from training.calibration import probabilities
from training.export import run

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_decoder = msgspec.json.Decoder(Manifest)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The bundle that `current` names."""

    name: str
    manifest: Manifest
    graph: bytes
    encoder: Encoder

    @classmethod
    def of(cls, out: Path) -> Champion | None:
        """The one in this folder of bundles; None where there is none.

        Raises UnusableModel where it can't be asked: unreadable, of another format, made for another catalogue.
        """
        if not (out / CURRENT).exists():
            return None
        folder = (out / CURRENT).resolve()
        try:
            manifest = _decoder.decode((folder / MANIFEST).read_bytes())
            graph = (folder / MODEL).read_bytes()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnusableModel(f"bundle {folder.name} can't be read: {error}") from error
        if manifest.format != FORMAT or manifest.catalogue != DIGEST:
            raise UnusableModel(
                f"bundle {folder.name} has format {manifest.format} and catalogue {manifest.catalogue}, here they are "
                f"{FORMAT} and {DIGEST}"
            )
        encoder = Encoder.load(folder)
        if manifest.features != FEATURES + encoder.features:
            raise UnusableModel(f"bundle {folder.name} wants other features than its catalogue and encodings have")
        return cls(name=folder.name, manifest=manifest, graph=graph, encoder=encoder)

    def scores(self, described: Vectors, transactions: pl.DataFrame) -> Floats:
        """[n], of transactions and their vectors `described` [n, features of the catalogue]."""
        vectors = np.hstack([described, self.encoder.encode_table(transactions)])
        return probabilities(run(self.graph, vectors), self.manifest.calibration)

    def knew(self, since: datetime) -> bool:
        """Whether it learnt from something since then: its trees, or the tables of its encodings."""
        learnt = "known_until" if self.encoder.columns else "until"
        return datetime.fromisoformat(str(self.manifest.trained[learnt])) > since
