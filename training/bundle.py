"""A bundle on disk: whole and under its digest, or not there at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from features.attributes import Attributes, written
from schemas.bundle import (
    ATTRIBUTES,
    DIGESTED,
    EVALUATION,
    GOLDEN,
    LINEAR,
    MANIFEST,
    MODEL,
    MOST_BYTES,
    OUTPUT,
    TREES,
    Manifest,
    digest_of,
)
from schemas.errors import UnusableModel

if TYPE_CHECKING:
    from training.export import Exported  # and with it ONNX, which a worker has not

NO_ATTRIBUTES = Attributes()
_encoder = msgspec.json.Encoder(order="deterministic")


def write(
    out: Path,
    *,
    exported: Exported,
    manifest: Manifest,
    golden_vectors: npt.NDArray[np.float32],
    golden_margins: npt.NDArray[np.float64],
    evaluation: str,
    attributes: Attributes = NO_ATTRIBUTES,
) -> Path:
    """The bundle's folder, `out`/<digest>, written beside and moved there at once.

    A bundle of this digest that is there already is kept, but for its evaluation.  Raises OSError.
    """
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f".draft-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        (draft / MODEL).write_bytes(exported.graph)
        (draft / MANIFEST).write_bytes(msgspec.json.format(_encoder.encode(manifest), indent=2) + b"\n")
        (draft / ATTRIBUTES).write_bytes(written(attributes))
        write_table(exported.trees, draft / TREES)
        if not exported.linear.is_empty():
            write_table(exported.linear, draft / LINEAR)
        golden = {name: golden_vectors[:, column] for column, name in enumerate(manifest.features)}
        write_table(pl.DataFrame(golden | {OUTPUT: golden_margins}), draft / GOLDEN)
        (draft / EVALUATION).write_text(evaluation, encoding="utf-8")
        return place(draft, out)
    except OSError as error:
        raise OSError(f"{out} can't be written to: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_table(table: pl.DataFrame, path: Path) -> None:
    """As Parquet, made in memory first: what a full disk says is lost where Polars writes the file.  Raises OSError."""
    made = io.BytesIO()
    table.write_parquet(made, compression="zstd", statistics=False)
    path.write_bytes(made.getbuffer())


def place(draft: Path, out: Path) -> Path:
    """A whole bundle, moved from `draft` to `out`/<digest> at once; one that is there is kept, but for its evaluation."""
    for file in draft.iterdir():
        _to_disk(file)
    folder = out / digest_of(draft)
    if folder.exists():
        (draft / EVALUATION).replace(folder / EVALUATION)
    else:
        draft.rename(folder)
        _to_disk(out)
    return folder


def require_whole(folder: Path, digest: str, name: str) -> None:
    """Holds what lies in `folder` to what a bundle is: its files, its size, its digest.  Raises UnusableModel, by `name`."""
    if not folder.is_dir():
        raise UnusableModel(f"{name} is no whole bundle: there is no folder {folder}")
    require_listed({file.name: file.stat().st_size for file in folder.iterdir()}, name)
    found = digest_of(folder)
    if found != digest:
        raise UnusableModel(f"{name} was registered as bundle {digest}, and is {found}: it was changed or cut short")


def require_listed(sizes: Mapping[str, int], name: str) -> None:
    """The same of what is known before anything is read: `sizes` by file, in bytes.  Raises UnusableModel, by `name`."""
    if missing := [file for file in DIGESTED if file not in sizes]:
        raise UnusableModel(f"{name} is no whole bundle: it has no {', '.join(missing)}")
    if (size := sum(sizes.values())) > MOST_BYTES:
        raise UnusableModel(f"{name} has {size:,} bytes, at most {MOST_BYTES:,} are read; train a smaller one")


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
