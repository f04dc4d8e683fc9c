"""A bundle that is asked about the rows that models are judged by: the one in use, or one that would be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from features.attributes import Encoder
from features.catalogue import DIGEST, FEATURES
from features.hash_keys import HashKeys
from schemas.bundle import CURRENT, FORMAT, GOLDEN, LINEAR, MANIFEST, MODEL, OUTPUT, TREES, Manifest
from schemas.errors import UnusableModel
from schemas.trees import require_linear, require_trees
from training.attributes import made_again
from training.bundle import require_whole
from training.calibration import probabilities
from training.export import run
from training.origin import disjoint
from training.split import KnownPast

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]

_decoder = msgspec.json.Decoder(Manifest)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What of a bundle the training needs to ask it."""

    name: str
    manifest: Manifest
    graph: bytes
    encoder: Encoder
    golden: tuple[Vectors, Floats]
    """Rows [n, features], and the margins [n] that the graph must answer."""

    @classmethod
    def in_use(cls, out: Path) -> Contender | None:
        """The one that `current` names in this folder of bundles; None where there is none.

        Raises UnusableModel where it can't be asked: not whole, of another format, made for another catalogue.
        """
        if not (out / CURRENT).exists():
            return None
        found = cls.read((out / CURRENT).resolve())
        found.require_fitting()
        return found

    @classmethod
    def read(cls, folder: Path) -> Contender:
        """The bundle in this folder, for whatever catalogue.  Raises UnusableModel, naming what is wrong."""
        name = f"bundle {folder.name}"
        require_whole(folder, folder.name, f"{name} in {folder.parent}")
        try:
            manifest = _decoder.decode((folder / MANIFEST).read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnusableModel(f"{name}: {MANIFEST} is no manifest: {error}") from error
        if manifest.format != FORMAT:
            raise UnusableModel(f"{name} has format {manifest.format}, here it is {FORMAT}")
        table = _table(folder, GOLDEN)
        if table.columns != [*manifest.features, OUTPUT] or table.is_empty():
            raise UnusableModel(
                f"{name}: {GOLDEN} must hold rows of its {len(manifest.features)} features and {OUTPUT}"
            )
        require_trees(_table(folder, TREES), len(manifest.features), folder.name)
        if (folder / LINEAR).exists():
            require_linear(_table(folder, LINEAR), len(manifest.features), folder.name)
        vectors = np.ascontiguousarray(table.select(manifest.features).to_numpy().astype(np.float32, copy=False))
        return cls(
            name=folder.name,
            manifest=manifest,
            graph=(folder / MODEL).read_bytes(),
            encoder=Encoder.load(folder),
            golden=(vectors, table[OUTPUT].to_numpy().astype(np.float64, copy=False)),
        )

    def require_fitting(self) -> None:
        """Raises UnusableModel where what is described here is not what it wants to be told."""
        manifest = self.manifest
        if manifest.catalogue != DIGEST:
            raise UnusableModel(
                f"bundle {self.name} was made for catalogue {manifest.catalogue}, here it is {DIGEST}: train one for this"
            )
        if manifest.attributes != self.encoder.columns or manifest.features != FEATURES + self.encoder.features:
            raise UnusableModel(f"bundle {self.name} wants other features than its catalogue and encodings have")

    def scores(self, described: Vectors, transactions: pl.DataFrame) -> Floats:
        """[n], of transactions and their vectors `described` [n, features of the catalogue]."""
        vectors = np.hstack([described, self.encoder.encode_table(transactions)])
        return probabilities(run(self.graph, vectors), self.manifest.calibration)

    def as_of(self, at: datetime, past: KnownPast, accepted: Rows, delay: timedelta) -> Contender:
        """The same with the tables of its encodings as they would have been then, where they knew something later.

        Else a bundle would be judged by rows whose labels stand in its tables.
        """
        if not self.encoder.columns or self._moment("known_until") <= at:
            return self
        return replace(self, encoder=made_again(self.encoder, at, past, accepted, delay))

    def knew(self, since: datetime) -> bool:
        """Whether a row since then had a part in what it is."""
        return self.chosen_until > since

    def learnt_elsewhere(self, transactions: pl.DataFrame, keys: HashKeys) -> bool:
        """Whether none of these is of the past that it learnt from.

        False where the bundle doesn't say, or by other keys than these: dates decide then.
        """
        return disjoint(self.manifest.learnt_from, transactions, keys)

    @property
    def chosen_until(self) -> datetime:
        """Rows from here on had no part in it: neither the fit nor any choice, as of thresholds, goes by them.

        Raises UnusableModel where the bundle doesn't say.
        """
        return self._moment("chosen_until")

    @property
    def label_delay(self) -> timedelta | None:
        """After which labels were expected when it was learnt; None: it doesn't say."""
        days = self.manifest.trained.get("label_delay_days")
        return timedelta(days=days) if isinstance(days, int | float) else None

    def _moment(self, name: str) -> datetime:
        try:
            return datetime.fromisoformat(str(self.manifest.trained[name]))
        except (KeyError, ValueError) as error:
            raise UnusableModel(
                f"bundle {self.name} does not say until when it learnt: `training run` made none such"
            ) from error


def _table(folder: Path, name: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(folder / name, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnusableModel(f"bundle {folder.name}: {name} can't be read: {error}") from error
