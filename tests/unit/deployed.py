"""A topic `models` in memory, with workers that follow it; and bundles with something wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import polars as pl

from features.catalogue import DIGEST
from features.deployments import Deployments, Update
from features.settings import Settings
from schemas.bundle import GOLDEN, MANIFEST, MODEL, OUTPUT, digest_of
from schemas.deployment import Deployment, Refusal, Serving


class FakeDeployments(Deployments):
    """See features.deployments.  Its workers take up what was written last, but for bundles that they refuse."""

    def __init__(self, *workers: str, catalogue: str = DIGEST, refusing: Mapping[str, str] | None = None) -> None:
        super().__init__(Settings(), "fraud-scorer")
        self.now: Deployment | None = None
        self.workers, self.catalogue = workers, catalogue
        self.refusing = dict(refusing or {})
        self.said_at = datetime.now(UTC)
        self.asleep = False
        """They take nothing up any more."""
        self.meanwhile: list[Update] = []
        """What somebody else changes after the deployment was read, and before the next change is written."""
        self.loses = False
        """The next acknowledgement: the change is written, and attempted again."""
        self.gives_up: Exception | None = None
        """Raised instead of a second attempt."""
        self._seen: Deployment | None = None

    def latest(self) -> Deployment | None:
        return self.now

    def serving(self) -> list[Serving]:
        if not self.asleep:
            self._seen = self.now
        return [self._serving(worker) for worker in self.workers]

    def change(self, update: Update, *, within: float = 30.0) -> Deployment:
        meanwhile, self.meanwhile = self.meanwhile, []
        loses, self.loses = self.loses, False
        if loses:
            self.now = update(self.now)
        for other in meanwhile:
            self.now = other(self.now)
        if loses and self.gives_up is not None:
            raise self.gives_up
        self.now = update(self.now)
        return self.now

    def _serving(self, worker: str) -> Serving:
        seen = self._seen
        wanted = [] if seen is None else [one for one in (seen.champion, seen.challenger) if one is not None]
        return Serving(
            worker=worker,
            catalogue=self.catalogue,
            deployment=0 if seen is None else seen.number,
            champion="f" * 16 if not wanted or wanted[0].bundle in self.refusing else wanted[0].bundle,
            challenger=wanted[1].bundle if len(wanted) > 1 else None,
            refused=tuple(
                Refusal(bundle=one.bundle, why=self.refusing[one.bundle])
                for one in wanted
                if one.bundle in self.refusing
            ),
            at=self.said_at,
        )


def altered(bundle: Path, out: Path, alter: Callable[[Path], object]) -> Path:
    """A copy in which something was altered, under its own digest: whole, as far as that goes."""
    draft = out / "draft"
    shutil.copytree(bundle, draft)
    alter(draft)
    return draft.rename(out / digest_of(draft))


def with_manifest(**changed: Any) -> Callable[[Path], None]:
    """These fields of the manifest are others."""

    def alter(folder: Path) -> None:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest | changed))

    return alter


def with_another_feature(folder: Path) -> None:
    """The first feature is one that nobody here describes."""
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    first, *others = manifest["features"]
    with_manifest(features=["shoe_size", *others])(folder)
    pl.read_parquet(folder / GOLDEN).rename({first: "shoe_size"}).write_parquet(folder / GOLDEN)


def with_wrong_golden_rows(folder: Path) -> None:
    """One margin is off by its last bit."""
    golden = pl.read_parquet(folder / GOLDEN)
    margins = golden[OUTPUT].to_numpy().copy()
    margins[3] = np.nextafter(margins[3], 9)
    golden.with_columns(pl.Series(OUTPUT, margins)).write_parquet(folder / GOLDEN)


def with_margins_that_are_no_numbers(folder: Path) -> None:
    """The graph says NaN of everything, and so the golden rows have it."""
    model = onnx.load(folder / MODEL)
    [trees] = [node for node in model.graph.node if node.op_type == "TreeEnsemble"]
    [weights] = [attribute for attribute in trees.attribute if attribute.name == "leaf_weights"]
    values = onnx.numpy_helper.to_array(weights.t)
    weights.t.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), weights.t.name))
    (folder / MODEL).write_bytes(model.SerializeToString())
    golden = pl.read_parquet(folder / GOLDEN)
    golden.with_columns(pl.lit(float("nan")).alias(OUTPUT)).write_parquet(folder / GOLDEN)
