"""A whole past through the kernel: each transaction as a worker would have seen it.

An account's profile depends on nothing but that account's events, and a counterparty's on its own: so a past is sorted by
them and walked in blocks that fit the cache, however long it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features import kernel
from features.profile import ACCOUNT, COUNTERPARTY, Profiles

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
BLOCK = 512
"""Profiles walked at once."""


class Steps(NamedTuple):
    """Steps of one kind of profile, n of each; within a profile they are taken by growing `at`, then by row."""

    step: Column
    profile: Column
    """Whose: 0 and up; -1 for a question that names nobody."""
    at: Column
    """When the step was taken, in any unit that orders them."""
    time: Column
    amount: Column
    ident: Column
    extra: Column
    """Of a transaction its content's hash, of a payment its account's."""
    known: Column
    fraud: Column
    offset: Column
    told: Column
    """The row of the vectors that a description goes to, or UNTOLD."""

    @classmethod
    def of(cls, step: int, *, profile: Ints, at: Ints, time: Ints, ident: npt.NDArray[np.uint64] | None = None,
           amount: Ints | None = None, extra: npt.NDArray[np.uint64] | None = None, known: Ints | None = None,
           fraud: npt.NDArray[np.int8] | None = None, offset: Ints | None = None, told: Ints | None = None) -> Steps:  # fmt: skip
        """Steps that are all of one kind; what is left out is zero (offset and told: none)."""
        n = len(profile)
        return cls(
            np.full(n, step, np.int8),
            profile,
            at,
            time,
            np.zeros(n, np.int64) if amount is None else amount,
            np.zeros(n, np.uint64) if ident is None else ident,
            np.zeros(n, np.uint64) if extra is None else extra,
            np.zeros(n, np.int64) if known is None else known,
            np.zeros(n, np.int8) if fraud is None else fraud,
            np.full(n, -1, np.int64) if offset is None else offset,
            np.full(n, kernel.UNTOLD, np.int64) if told is None else told,
        )

    @classmethod
    def merged(cls, *parts: Steps) -> Steps:
        """In the order in which they are taken; at the same `at` earlier parts come first."""
        whole = cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        order = np.lexsort((whole.at, whole.profile))  # stable
        return cls(*(column[order] for column in whole))

    def blocks(self) -> list[tuple[int, slice]]:
        """The first profile of each block, and its steps; of merged steps only."""
        if not len(self.profile) or self.profile[-1] < 0:
            return []
        first = np.arange(0, int(self.profile[-1]) + 1, BLOCK)
        starts = np.searchsorted(self.profile, first)
        ends = [*starts[1:].tolist(), len(self.profile)]
        return [(int(p), slice(int(s), e)) for p, s, e in zip(first, starts, ends, strict=True) if e > s]


def walk_accounts(steps: Steps, vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Merged steps of accounts.  Fills their columns of `vectors` and returns, of each told row, status and lateness."""
    profiles = Profiles.room_for(BLOCK, ACCOUNT)
    status = np.zeros(len(steps.step), np.int8)
    late = np.zeros(len(steps.step), np.int8)
    for first, some in steps.blocks():
        profiles.clear(BLOCK)
        part = Steps(*(column[some] for column in steps))
        kernel.walk_accounts(
            part.step, part.profile - first, part.time, part.amount, part.ident, part.extra.astype(np.uint32), part.known,
            part.fraud, part.offset, part.told, profiles.shape.horizon, profiles.head, profiles.events, profiles.tiles,
            profiles.labels, profiles.fraud_days, vectors, status[some], late[some],
        )  # fmt: skip
    told = steps.told != kernel.UNTOLD
    by_row = np.empty(len(vectors), np.int8)
    late_by_row = np.empty(len(vectors), np.bool_)
    by_row[steps.told[told]] = status[told]
    late_by_row[steps.told[told]] = late[told].astype(np.bool_)
    return by_row, late_by_row


def walk_counterparties(steps: Steps, vectors: npt.NDArray[np.float32]) -> None:
    """Merged steps of counterparties.  Fills their columns of `vectors`."""
    profiles = Profiles.room_for(BLOCK, COUNTERPARTY)
    nobody = int(np.searchsorted(steps.profile, 0))
    walks = [(0, slice(0, nobody))] if nobody else []
    for first, some in walks + steps.blocks():
        profiles.clear(BLOCK)
        part = Steps(*(column[some] for column in steps))
        row = np.where(part.profile < 0, -1, part.profile - first)
        kernel.walk_counterparties(
            part.step, row, part.time, part.amount, part.ident, part.extra, part.known, part.fraud, part.offset, part.told,
            profiles.shape.horizon, profiles.head, profiles.events, profiles.tiles, profiles.labels, profiles.fraud_days,
            vectors,
        )  # fmt: skip
