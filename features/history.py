"""A whole past through the kernel: each transaction as a worker would have seen it.

An account's profile depends on nothing but that account's events, and a counterparty's on its own: so a past is sorted by
them and walked in blocks that fit the cache, however long it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features import kernel
from features.catalogue import OF_THE_ACCOUNT, OF_THE_COUNTERPARTY
from features.compiling import compiled_apart
from features.facts import Facts
from features.profile import ACCOUNT, COUNTERPARTY, Profiles

compiled_apart()

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
BLOCK = 512
"""Profiles walked at once, at most."""
STEPS = 4_096
"""Steps taken at once, or one profile's: what they read and write lies together then, and fits the cache."""


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
        in_time = np.argsort(whole.at, kind="stable")  # mostly merging: parts are in time already
        order = _by_profile(whole.profile, in_time)
        return cls(*(column[order] for column in whole))

    def blocks(self) -> list[tuple[int, slice]]:
        """The first profile of each block, and its steps; of merged steps only."""
        if not len(self.profile) or self.profile[-1] < 0:
            return []
        count = int(self.profile[-1]) + 1
        starts = np.searchsorted(self.profile, np.arange(count + 1))
        found: list[tuple[int, slice]] = []
        first = 0
        while first < count:
            enough = int(np.searchsorted(starts, starts[first] + STEPS, side="right")) - 1
            end = min(max(enough, first + 1), first + BLOCK, count)
            if starts[end] > starts[first]:
                found.append((first, slice(int(starts[first]), int(starts[end]))))
            first = end
        return found


@njit(cache=True, nogil=True)
def _by_profile(profile: Ints, order: Ints) -> Ints:
    """`order`, and of each profile's together; -1 comes first."""
    end = np.zeros(profile.max() + 3 if len(profile) else 1, np.int64)
    for p in profile:
        end[p + 2] += 1
    end = np.cumsum(end)
    out = np.empty(len(order), np.int64)
    for row in order:
        p = profile[row] + 1
        out[end[p]] = row
        end[p] += 1
    return out


class Walked(NamedTuple):
    """Of each transaction, by its row."""

    status: npt.NDArray[np.int8]
    """kernel.NEW, DUPLICATE or ID_REUSED."""
    late: npt.NDArray[np.int8]
    ratio: npt.NDArray[np.int32]
    """To what was typical of its account, in thousandths; 0 where nothing was."""

    @classmethod
    def of(cls, count: int) -> Walked:
        """To be filled."""
        return cls(np.empty(count, np.int8), np.empty(count, np.int8), np.empty(count, np.int32))


def walk_accounts(steps: Steps, transactions: Facts, labels: Facts, vectors: npt.NDArray[np.float32]) -> Walked:
    """Merged steps of accounts, each transaction once.  Fills their columns of `vectors`, of new transactions."""
    profiles = Profiles.room_for(BLOCK, ACCOUNT)
    walked = Walked.of(len(transactions))
    blocks = steps.blocks()
    said = _room(blocks, vectors)
    for first, some in blocks:
        profiles.clear(BLOCK)
        step, towards = steps.step[some], steps.told[some]
        which, (mine, heard) = _together(step, steps.which[some], (kernel.TRANSACTION, kernel.LABEL))
        asked = towards != kernel.UNTOLD
        here = Walked.of(len(mine))
        kernel.walk_accounts(
            step, steps.profile[some] - first, which, _numbered(asked), transactions[mine], labels[heard],
            profiles.limits, profiles.rows, said, *here,
        )  # fmt: skip
        walked.status[mine], walked.late[mine], walked.ratio[mine] = here
        new = here.status[which[asked]] == kernel.NEW
        _put(said, np.where(new, towards[asked], kernel.UNTOLD), vectors, OF_THE_ACCOUNT.start, OF_THE_ACCOUNT.stop)
    return walked


def walk_counterparties(
    steps: Steps, payments: Facts, labels: Facts, transactions: Facts, vectors: npt.NDArray[np.float32]
) -> None:
    """Merged steps of counterparties.  Fills their columns of `vectors`."""
    profiles = Profiles.room_for(BLOCK, COUNTERPARTY)
    nobody = int(np.searchsorted(steps.profile, 0))
    vectors[steps.told[:nobody], OF_THE_COUNTERPARTY] = np.nan
    blocks = steps.blocks()
    said = _room(blocks, vectors)
    for first, some in blocks:
        profiles.clear(BLOCK)
        step, towards = steps.step[some], steps.told[some]
        which, (paid, heard, asking) = _together(
            step, steps.which[some], (kernel.PAYMENT, kernel.PAYMENT_LABEL, kernel.QUESTION)
        )
        asked = towards != kernel.UNTOLD
        kernel.walk_counterparties(
            step, steps.profile[some] - first, which, _numbered(asked), payments[paid], labels[heard],
            transactions[asking], profiles.limits, profiles.rows, said,
        )  # fmt: skip
        _put(said, towards[asked], vectors, OF_THE_COUNTERPARTY.start, OF_THE_COUNTERPARTY.stop)


def _room(blocks: list[tuple[int, slice]], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """For what is told of one block; the same memory again and again."""
    return np.empty((max((some.stop - some.start for _, some in blocks), default=0), vectors.shape[1]), np.float32)


def _together(step: Column, which: Column, kinds: tuple[int, ...]) -> tuple[Ints, list[Ints]]:
    """The rows that steps of each kind take, and of each step its place among those of its kind."""
    place = np.empty(len(step), np.int64)
    rows: list[Ints] = []
    for kind in kinds:
        its = np.flatnonzero(step == kind)
        place[its] = np.arange(len(its))
        rows.append(which[its])
    return place, rows


@njit(cache=True, nogil=True)
def _put(said: Any, towards: Ints, vectors: Any, begin: int, end: int) -> None:
    """Columns of each row to its place (numpy's own way is through a copy, and slower than the walk)."""
    for i in range(len(towards)):
        if towards[i] >= 0:
            for k in range(begin, end):
                vectors[towards[i], k] = said[i, k]


def _numbered(asked: npt.NDArray[np.bool_]) -> Ints:
    return np.where(asked, np.cumsum(asked) - 1, kernel.UNTOLD)
