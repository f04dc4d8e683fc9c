"""Bundles that must never judge: ten ways to be wrong, and what a worker says of each."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from schemas.bundle import GOLDEN, MANIFEST, MODEL, OUTPUT, TREES, Manifest, digest_of

_decoder = msgspec.json.Decoder(Manifest)


@dataclass(frozen=True)
class Spoiling:
    """A way to be wrong."""

    name: str
    spoil: Callable[[Path], object]
    renamed: bool
    """The folder gets the name that its files have now: only a closer look shows what is wrong."""
    says: str
    """A part of what a worker says."""


def spoiled(bundle: Path, out: Path, spoiling: Spoiling) -> str:
    """The digest of a copy of `bundle` in the folder `out`, spoiled; where it is not there at all, what it would have."""
    draft = out / f".draft-{secrets.token_hex(8)}"
    shutil.copytree(bundle, draft)
    # Each has a digest of its own, or it would be refused for what another of the same name was.
    _change(draft, trained={"spoiled": spoiling.name})
    digest = digest_of(draft)
    spoiling.spoil(draft)
    if spoiling.renamed:
        digest = digest_of(draft)
    if draft.exists():
        draft.rename(out / digest)
    return digest


def variant(bundle: Path, out: Path, **changes: Any) -> str:
    """The digest of a copy of `bundle` in the folder `out` with another manifest."""
    return spoiled(bundle, out, Spoiling("nothing", lambda folder: _change(folder, **changes), True, ""))


def _change(folder: Path, **changes: Any) -> None:
    manifest = _decoder.decode((folder / MANIFEST).read_bytes())
    changed = msgspec.structs.replace(manifest, **changes)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(changed))


def _cut(name: str) -> Callable[[Path], object]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:1_000])

    return cut


def _golden(change: pl.Expr) -> Callable[[Path], object]:
    def answer_otherwise(folder: Path) -> None:
        pl.read_parquet(folder / GOLDEN).with_columns(change).write_parquet(folder / GOLDEN)

    return answer_otherwise


def _without_a_feature(folder: Path) -> None:
    manifest = _decoder.decode((folder / MANIFEST).read_bytes())
    _change(folder, features=manifest.features[1:])


def _enormous(folder: Path) -> None:
    with (folder / "model.onnx.data").open("wb") as file:
        file.truncate(2 << 30)


SPOILINGS = (
    Spoiling("cut short", _cut(MODEL), False, "is not what its name says"),
    Spoiling("cut short, and named so", _cut(MODEL), True, "ONNX Runtime refuses"),
    Spoiling("without its graph", lambda folder: (folder / MODEL).unlink(), False, "has no model.onnx"),
    Spoiling(
        "changed afterwards",
        lambda folder: _change(folder, base=1.0),
        False,
        "is not what its name says",
    ),
    Spoiling(
        "of another catalogue", lambda folder: _change(folder, catalogue="0" * 16), True, "was made for catalogue"
    ),
    Spoiling("of other features", _without_a_feature, True, "train"),
    Spoiling("of another format", lambda folder: _change(folder, format=1), True, "has format 1"),
    Spoiling("with other golden rows", _golden(pl.col(OUTPUT) + 1e-12), True, "have other margins"),
    Spoiling("with trees of another model", _cut(TREES), True, "can't be read"),
    Spoiling("of two gigabytes", _enormous, False, "bytes, at most"),
    Spoiling("that is nowhere", shutil.rmtree, False, "can't be fetched"),
)
