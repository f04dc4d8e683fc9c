"""A whole past through the kernel: each transaction as a worker would have seen it.

An account's profile depends on nothing but that account's events, and a counterparty's on its own: so a past is sorted by
them and walked in blocks that fit the cache, however long it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features import kernel
from features.facts import Facts
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
    which: Column
    """The row of the facts that it takes."""
    told: Column
    """The row of the vectors that a description goes to, or UNTOLD."""

    @classmethod
    def of(
        cls, step: int | npt.NDArray[np.int8], *, profile: Ints, at: Ints, which: Ints, told: Ints | None = None
    ) -> Steps:
        """Steps of one kind, or of kinds row by row; without `told` they tell nothing."""
        n = len(profile)
        steps = np.full(n, step, np.int8) if isinstance(step, int) else step
        return cls(steps, profile, at, which, np.full(n, kernel.UNTOLD, np.int64) if told is None else told)

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


class Walked(NamedTuple):
    """Of each transaction, by its row."""

    status: npt.NDArray[np.int8]
    """kernel.NEW, DUPLICATE or ID_REUSED."""
    late: npt.NDArray[np.int8]
    ratio: npt.NDArray[np.int32]
    """To what was typical of its account, in thousandths; 0 where nothing was."""


def walk_accounts(steps: Steps, transactions: Facts, labels: Facts, vectors: npt.NDArray[np.float32]) -> Walked:
    """Merged steps of accounts, each transaction once.  Fills their columns of `vectors`."""
    profiles = Profiles.room_for(BLOCK, ACCOUNT)
    n = len(transactions)
    walked = Walked(np.empty(n, np.int8), np.empty(n, np.int8), np.empty(n, np.int32))
    for first, some in steps.blocks():
        profiles.clear(BLOCK)
        kernel.walk_accounts(
            steps.step[some], steps.profile[some] - first, steps.which[some], steps.told[some], transactions, labels,
            profiles.limits, profiles.rows, vectors, *walked,
        )  # fmt: skip
    return walked


def walk_counterparties(
    steps: Steps, payments: Facts, labels: Facts, transactions: Facts, vectors: npt.NDArray[np.float32]
) -> None:
    """Merged steps of counterparties.  Fills their columns of `vectors`."""
    profiles = Profiles.room_for(BLOCK, COUNTERPARTY)
    nobody = int(np.searchsorted(steps.profile, 0))
    walks = [(0, slice(0, nobody))] if nobody else []
    for first, some in walks + steps.blocks():
        profiles.clear(BLOCK)
        whose = steps.profile[some]
        kernel.walk_counterparties(
            steps.step[some], np.where(whose < 0, -1, whose - first), steps.which[some], steps.told[some], payments, labels,
            transactions, profiles.limits, profiles.rows, vectors,
        )  # fmt: skip
