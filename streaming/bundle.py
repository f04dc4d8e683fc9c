"""A model bundle, loaded and held to what it promises.  The only place that knows ONNX Runtime.

Its margins are the training's bit for bit as long as the session has one thread: with more, ONNX Runtime adds up partial
sums of trees in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import polars as pl

from features.attributes import Encoder
from schemas.bundle import (
    ATTRIBUTES,
    CURRENT,
    DIGESTED,
    FORMAT,
    GOLDEN,
    INPUT,
    LINEAR,
    MANIFEST,
    MODEL,
    MOST_BYTES,
    OUTPUT,
    TREES,
    Manifest,
    digest_of,
)
from schemas.bundle_tables import LINEAR_COLUMNS
from schemas.errors import UnusableModel
from schemas.trees import MOST_ROWS, require_linear, require_trees

Vectors = npt.NDArray[np.float32]
Margins = npt.NDArray[np.float64]

_BATCHES_TO_TRY = (1, 7)
"""Beside all golden rows at once: ONNX Runtime takes another path for one row than for many."""

_decoder = msgspec.json.Decoder(Manifest)


def resolve(path: Path) -> Path:
    """The bundle's folder: `path` itself, or what it links to (`.local/bundles/current`).

    Raises UnusableModel where there is none.
    """
    if path.is_symlink() and not path.exists():
        raise UnusableModel(f"{path} names {path.readlink()}, which is not there; `training run` makes a bundle")
    if not path.is_dir():
        raise UnusableModel(f"there is no bundle at {path}; `training run` makes one, or name its folder")
    folder = path.resolve()
    if not (folder / MANIFEST).exists() and (folder / CURRENT).exists():
        raise UnusableModel(f"{path} is a folder of bundles: name one of them, or {path / CURRENT}")
    return folder


@dataclass(frozen=True, kw_only=True)
class LoadedBundle:
    """A bundle that answers.  Safe to load in one thread and to ask in others."""

    name: str
    """Its digest: the name of its folder, and what every verdict calls it."""
    folder: Path
    manifest: Manifest
    encoder: Encoder
    """Of the columns that it wants behind the catalogue's."""
    session: ort.InferenceSession

    @classmethod
    def load(cls, folder: Path, *, features: Sequence[str], catalogue: str) -> LoadedBundle:
        """The bundle in `folder`, warm, for vectors of these `features` in this order and what its `encoder` puts behind.

        Takes 20-100 ms, most of it without the GIL.  Raises UnusableModel, naming what is wrong and what would be
        right: a file missing or unreadable, a folder whose name is not its digest, another format, another catalogue
        or other features, a graph of another shape, golden rows that it doesn't answer bit for bit.
        """
        folder = resolve(folder)
        _require_digest(folder)
        manifest = _manifest(folder)
        encoder = Encoder.load(folder)
        _require_fitting(manifest, encoder, folder.name, features=features, catalogue=catalogue)
        session = _session(folder, len(manifest.features))
        bundle = cls(name=folder.name, folder=folder, manifest=manifest, encoder=encoder, session=session)
        bundle.require_golden_margins()
        return bundle

    @classmethod
    def load_any(cls, folder: Path) -> LoadedBundle:
        """The same for vectors of its own catalogue, whatever the catalogue is here.  Raises UnusableModel."""
        folder = resolve(folder)
        _require_digest(folder)
        manifest = _manifest(folder)
        described = _described(manifest, Encoder.load(folder))
        return cls.load(folder, features=described, catalogue=manifest.catalogue)

    @property
    def described(self) -> tuple[str, ...]:
        """Its features that the catalogue describes; the `encoder`'s are behind them."""
        return _described(self.manifest, self.encoder)

    def margins(self, vectors: Vectors) -> Margins:
        """The raw margins, float64 [n], of `vectors`, float32 [n, features]; NaN is a missing value."""
        answered = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(vectors, np.float32)})
        margins: Margins = answered[0][:, 0]
        return margins

    def golden(self) -> tuple[Vectors, Margins]:
        """Rows and what the training got for them when the bundle was made.  Raises UnusableModel."""
        table = _table(self.folder, GOLDEN)
        names = self.manifest.features
        if table.columns != [*names, OUTPUT] or table.is_empty():
            raise UnusableModel(
                f"bundle {self.name}: {GOLDEN} must hold rows of the {len(names)} features and {OUTPUT}"
            )
        vectors = np.ascontiguousarray(table.select(names).to_numpy().astype(np.float32, copy=False))
        return vectors, table[OUTPUT].to_numpy().astype(np.float64, copy=False)

    def trees(self) -> pl.DataFrame:
        """The same trees as a table, schemas.bundle_tables.NODE_COLUMNS.  Raises UnusableModel."""
        table = _table(self.folder, TREES)
        require_trees(table, len(self.manifest.features), self.name)
        return table

    def linear(self) -> pl.DataFrame:
        """The linear terms beside the trees, schemas.bundle_tables.LINEAR_COLUMNS.  Raises UnusableModel."""
        if not (self.folder / LINEAR).exists():
            return pl.DataFrame(schema=LINEAR_COLUMNS)
        table = _table(self.folder, LINEAR)
        require_linear(table, len(self.manifest.features), self.name)
        return table

    def require_golden_margins(self) -> None:
        """Raises UnusableModel where the graph doesn't answer the golden rows bit for bit: all at once, and few at a time."""
        vectors, expected = self.golden()
        whole = self.margins(vectors)
        if np.isnan(whole).any():
            raise UnusableModel(f"bundle {self.name}: {int(np.isnan(whole).sum())} margins of golden rows are NaN")
        answers = {len(vectors): whole}
        for rows in _BATCHES_TO_TRY:
            parts = [self.margins(vectors[start : start + rows]) for start in range(0, len(vectors), rows)]
            answers[rows] = np.concatenate(parts)
        for rows, answered in answers.items():
            different = np.flatnonzero(answered.view(np.int64) != expected.view(np.int64))
            if different.size:
                first = int(different[0])
                here, there = float(answered[first]), float(expected[first])
                raise UnusableModel(
                    f"bundle {self.name}: {different.size} of {len(expected)} golden rows, asked {rows} at "
                    f"a time, have other margins (row {first}: {here!r}, not {there!r}): "
                    "make it again with this version of ONNX Runtime, or go back to the one before"
                )


def _require_digest(folder: Path) -> None:
    missing = [name for name in DIGESTED if not (folder / name).is_file()]
    if missing:
        raise UnusableModel(f"bundle {folder} has no {', '.join(missing)}; a bundle is {', '.join(DIGESTED)}")
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > MOST_BYTES:
        raise UnusableModel(f"bundle {folder} has {size:,} bytes, at most {MOST_BYTES:,} are read; train a smaller one")
    try:
        digest = digest_of(folder)
    except OSError as error:
        raise UnusableModel(f"bundle {folder} can't be read: {error}") from error
    if digest != folder.name:
        raise UnusableModel(
            f"bundle {folder} is not what its name says: its files' digest is {digest}; "
            "copy it again, truncated or changed bundles aren't served"
        )


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = _decoder.decode((folder / MANIFEST).read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnusableModel(f"bundle {folder.name}: {MANIFEST} is no manifest: {error}") from error
    if manifest.format != FORMAT:
        raise UnusableModel(f"bundle {folder.name} has format {manifest.format}, this version reads {FORMAT}")
    return manifest


def _described(manifest: Manifest, encoder: Encoder) -> tuple[str, ...]:
    return manifest.features[: max(len(manifest.features) - len(encoder.features), 0)]


def _require_fitting(
    manifest: Manifest, encoder: Encoder, name: str, *, features: Sequence[str], catalogue: str
) -> None:
    described = _described(manifest, encoder)
    if manifest.attributes != encoder.columns or manifest.features != described + encoder.features:
        raise UnusableModel(
            f"bundle {name}: {MANIFEST} and {ATTRIBUTES} name other columns, or other encodings of them: "
            "they are of two models, train it again"
        )
    if described != tuple(features):
        absent = [feature for feature in features if feature not in described]
        unknown = [feature for feature in described if feature not in features]
        how = "; ".join(
            f"{said} {', '.join(which[:5])}{' …' if len(which) > 5 else ''}"
            for said, which in (("it lacks", absent), ("it wants", unknown))
            if which
        )
        raise UnusableModel(
            f"bundle {name} was made for {len(described)} features, here are {len(features)}: "
            f"{how or 'the same in another order'}; train one for this catalogue ({catalogue})"
        )
    if manifest.catalogue != catalogue:
        raise UnusableModel(
            f"bundle {name} was made for catalogue {manifest.catalogue}, here is {catalogue}: the names are the same, "
            "what they mean is not; train one for this catalogue"
        )


def _session(folder: Path, features: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession((folder / MODEL).read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise UnusableModel(f"bundle {folder.name}: ONNX Runtime refuses {MODEL}: {error}") from error
    takes = [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()]
    gives = [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()]
    right = [(INPUT, "tensor(float)", [features])], [(OUTPUT, "tensor(double)", [1])]
    if (takes, gives) != right:
        raise UnusableModel(
            f"bundle {folder.name}: {MODEL} takes {takes} and gives {gives}, not {right[0]}, {right[1]}"
        )
    return session


def _table(folder: Path, name: str) -> pl.DataFrame:
    try:
        table = pl.read_parquet(folder / name, glob=False, n_rows=MOST_ROWS + 1)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnusableModel(f"bundle {folder.name}: {name} can't be read: {error}") from error
    if table.height > MOST_ROWS:
        raise UnusableModel(f"bundle {folder.name}: {name} has more than {MOST_ROWS:,} rows, train a smaller one")
    return table
