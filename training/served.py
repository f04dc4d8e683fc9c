"""Vectors as they were served, from the archive's verdicts, beside those that a replay makes of the same past.

A replay takes a payment to be known to its counterparty at once, and a label from its `known_at` on.  A worker may have heard
of either later; what it had not folded yet, its vector does not know.  A model learns what workers see from theirs, and has
only the rows that were judged: a past that was loaded has no verdicts.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_hexdigest

from features.archive import Archive
from features.catalogue import DIGEST, FEATURES
from schemas.bundle import MANIFEST, Manifest
from training.errors import UnusablePast
from training.replay import Replayed

Vectors = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What was served of a past's transactions."""

    vectors: Vectors
    """[n, features]: the catalogue's; NaN where none was served."""
    there: Bools
    """[n]: of which there is one."""

    def of(self, some: Bools) -> Served:
        """Some of the rows."""
        return Served(vectors=self.vectors[some], there=self.there[some])


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Vectors as served, and as a replay makes them."""

    served: int
    without: int
    """Transactions that a worker would judge, and of which no vector was served: they are left out."""
    unlike: int
    """Of the served ones, those that a replay makes otherwise."""

    def __str__(self) -> str:
        of = "a worker had folded less, of a label or a payment that came late, than the replay takes for known"
        return (
            f"{self.served:,} vectors as served, {self.unlike:,} of them not as replayed ({of}); {self.without:,} transactions "
            "have none, and are left out"
        )


class _Verdict(msgspec.Struct, gc=False):
    """What is needed of schemas.verdict.Verdict, in half of the time."""

    vector_digest: str
    vector: str | None = None


_decode_verdict = msgspec.json.Decoder(_Verdict).decode
_decode_manifest = msgspec.json.Decoder(Manifest).decode


def read_served(archive: Archive, bundles: Path) -> Served:
    """Of the transactions of `archive.past`, row by row; the archive must have been opened with its verdicts.

    `bundles`: the folder of those that the verdicts name.  The features of attributes, behind the catalogue's, are left:
    encodings are learnt anew.  A vector that isn't what its digest says is none.  Raises UnusablePast where a bundle is
    unknown or of another catalogue, or nothing was served; ArchiveUnusable.
    """
    places = archive.places().with_row_index("row")
    vectors = np.full((places.height, len(FEATURES)), np.nan, np.float32)
    there = np.zeros(places.height, np.bool_)
    known: set[str] = set()
    for verdicts in archive.verdicts():
        some = verdicts.join(places, on=["partition", "offset"], how="inner", maintain_order="left")
        new = set(some["bundle"].unique()) - known
        _require_our_catalogue(new, bundles)
        known |= new
        for row, value in some.select("row", "value").iter_rows():
            vector = _vector(value)
            if vector is not None:
                vectors[row], there[row] = vector, True
    if not there.any():
        raise UnusablePast(
            f"no verdict in {archive} has a vector: nothing was judged yet, or FRAUD_VECTORS is off at the workers; "
            "--vectors replayed would do"
        )
    return Served(vectors=vectors, there=there)


def instead_of(replayed: Replayed, served: Served) -> tuple[Replayed, Compared]:
    """The rows of a past as they were served, where they were; and how these compare."""
    there = served.there
    alike = (served.vectors == replayed.vectors) | (np.isnan(served.vectors) & np.isnan(replayed.vectors))
    return Replayed(served.vectors, there), Compared(
        served=int(there.sum()),
        without=int((replayed.accepted & ~there).sum()),
        unlike=int((there & ~alike.all(axis=1)).sum()),
    )


def _vector(value: bytes) -> Vectors | None:
    verdict = _decode_verdict(value)
    try:
        raw = a2b_base64(verdict.vector or "", strict_mode=True)
    except ValueError:
        return None
    if xxh3_64_hexdigest(raw) != verdict.vector_digest or len(raw) < 4 * len(FEATURES) or len(raw) % 4:
        return None
    return np.frombuffer(raw, "<f4", len(FEATURES))


def _require_our_catalogue(names: Iterable[str], bundles: Path) -> None:
    for name in sorted(names):
        file = bundles / name / MANIFEST
        try:
            catalogue = _decode_manifest(file.read_bytes()).catalogue
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnusablePast(
                f"verdicts are of bundle {name}, and what its vectors hold can't be known: {file} can't be read ({error}); "
                "--out with the folder that has it, or --vectors replayed, would do"
            ) from error
        if catalogue != DIGEST:
            raise UnusablePast(
                f"verdicts of bundle {name} hold vectors of catalogue {catalogue}, and ours is {DIGEST}: their features mean "
                "something else; --vectors replayed would do"
            )
