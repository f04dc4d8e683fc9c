"""A whole past through the kernel: each transaction as a worker would have seen it.

An account's profile depends on nothing but that account's events, and a counterparty's on its own: so a past is sorted by
them and walked in blocks that fit the cache, however long it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features import kernel
from features.catalogue import FEATURES, OF_THE_ACCOUNT, OF_THE_COUNTERPARTY
from features.compiling import compiled
from features.facts import TRANSACTION, Facts
from features.profile import ACCOUNT, COUNTERPARTY, Profiles

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
Indices = npt.NDArray[np.int32]
"""A past of two thousand million rows fits no memory."""
BLOCK = 512
"""Profiles walked at once, at most."""
STEPS = 4_096
"""Steps taken at once, or one profile's: what they read and write lies together then, and fits the cache."""


class Block(NamedTuple):
    """Profiles that are walked at once."""

    first: int
    """The first of them."""
    profiles: int
    """How many."""
    steps: slice


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
    def merged(cls, *parts: Steps) -> Merged:
        """In the order in which they are taken; at the same `at` earlier parts come first."""
        ready = [part.in_time() for part in parts]
        whole = Merged.room_for(sum(len(part.at) for part in ready))
        last = max((int(part.profile.max()) for part in ready if len(part.profile)), default=-1)
        next_of = np.zeros(last + 3, np.int64)
        for part in ready:
            _count(part.profile, next_of)
        columns = (tuple(column) for column in zip(*ready, strict=True))
        _merge(whole, np.cumsum(next_of), np.zeros(len(ready), np.int64), *columns)
        return whole

    def in_time(self) -> Steps:
        """By growing `at`, and fit for `_merge`."""
        whole = Steps(*(np.require(one, kind, ["C", "W"]) for one, kind in zip(self, _KINDS, strict=True)))
        if (whole.at[1:] >= whole.at[:-1]).all():
            return whole
        order = np.argsort(whole.at, kind="stable")
        return Steps(*(column[order] for column in whole))


class Merged(NamedTuple):
    """Steps in the order in which they are taken: of each profile's together, -1 first."""

    step: npt.NDArray[np.int8]
    profile: Indices
    which: Indices
    told: Indices

    @classmethod
    def room_for(cls, count: int) -> Merged:
        """To be filled."""
        return cls(np.empty(count, np.int8), *(np.empty(count, np.int32) for _ in range(3)))

    def blocks(self) -> list[Block]:
        """Of STEPS steps at most, or of one profile.  Those of nobody, which come first, are in none."""
        if not len(self.profile) or self.profile[-1] < 0:
            return []
        count = int(self.profile[-1]) + 1
        starts = np.searchsorted(self.profile, np.arange(count + 1, dtype=self.profile.dtype))
        found: list[Block] = []
        first = 0
        while first < count:
            enough = int(np.searchsorted(starts, starts[first] + STEPS, side="right")) - 1
            end = min(max(enough, first + 1), first + BLOCK, count)
            if starts[end] > starts[first]:
                found.append(Block(first, end - first, slice(int(starts[first]), int(starts[end]))))
            first = end
        return found


_KINDS = (np.int8, np.int64, np.int64, np.int64, np.int64)


@compiled()
def _count(profile: Column, steps: Ints) -> None:
    """Add to `steps` how many there are of each, from -1 on, each a place further."""
    for i in range(len(profile)):
        steps[profile[i] + 2] += 1


@compiled()
def _merge(whole: Any, next_of: Ints, begun: Ints, step: Any, profile: Any, at: Any, which: Any, told: Any) -> None:
    """Into `whole` the columns of all parts, which are in time each: of each profile's together, in time, earlier parts first.

    Profile -1 comes first.  `next_of`: by profile, from -1 on, where its next step goes; `begun`: steps taken of each part.
    """
    for _ in range(len(whole.step)):
        soonest = -1
        for part in range(len(at)):
            row = begun[part]
            if row < len(at[part]) and (soonest < 0 or at[part][row] < at[soonest][begun[soonest]]):
                soonest = part
        row = begun[soonest]
        begun[soonest] = row + 1
        p = profile[soonest][row]
        to = next_of[p + 1]
        next_of[p + 1] = to + 1
        whole.step[to], whole.profile[to] = step[soonest][row], p
        whole.which[to], whole.told[to] = which[soonest][row], told[soonest][row]


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


def walk_accounts(steps: Merged, transactions: Facts, labels: Facts, vectors: npt.NDArray[np.float32]) -> Walked:
    """Merged steps of accounts, each transaction once.  Fills their columns of `vectors`, of new transactions, and those
    that need no profile.
    """
    walked = Walked.of(len(transactions))
    for _ in _accounts(steps, transactions, labels, vectors, walked):
        pass
    return walked


def walk_counterparties(
    steps: Merged, payments: Facts, labels: Facts, transactions: Facts, vectors: npt.NDArray[np.float32]
) -> None:
    """Merged steps of counterparties.  Fills their columns of `vectors`."""
    nobody = int(np.searchsorted(steps.profile, 0))
    vectors[steps.told[:nobody], OF_THE_COUNTERPARTY] = np.nan
    for _ in _counterparties(steps, payments, labels, transactions, vectors):
        pass


def fold_accounts(steps: Merged, transactions: Facts, labels: Facts) -> dict[int, bytes]:
    """The packed profiles that merged steps leave, of each account that has any.  The steps tell nothing."""
    walk = _accounts(steps, transactions, labels, _NOTHING_TOLD, Walked.of(len(transactions)))
    return _packed(steps, walk)


def fold_counterparties(steps: Merged, payments: Facts, labels: Facts) -> dict[int, bytes]:
    """The same of counterparties, whom nobody asks."""
    return _packed(steps, _counterparties(steps, payments, labels, np.empty(0, TRANSACTION), _NOTHING_TOLD))


_NOTHING_TOLD = np.empty((0, len(FEATURES)), np.float32)


def _accounts(
    steps: Merged, transactions: Facts, labels: Facts, vectors: npt.NDArray[np.float32], walked: Walked
) -> Iterator[tuple[Block, Profiles]]:
    """Walks them a block at a time, and gives its profiles as they are then."""
    profiles = Profiles.room_for(BLOCK, ACCOUNT)
    room = _Room.of(steps, vectors)
    mine, heard = (np.empty(room.most, facts.dtype) for facts in (transactions, labels))
    here = Walked.of(room.most)
    for block in room.blocks:
        profiles.clear(block.profiles)
        step, which, towards = steps.step[block.steps], steps.which[block.steps], steps.told[block.steps]
        place, number = room.place[: len(step)], room.number[: len(step)]
        _gather(step, which, kernel.TRANSACTION, transactions, place, mine)
        _gather(step, which, kernel.LABEL, labels, place, heard)
        _number(towards, number)
        kernel.walk_accounts(
            step, steps.profile[block.steps] - np.int64(block.first), place, number, mine, heard, profiles.limits, profiles.rows,
            room.cells, room.said, *here,
        )  # fmt: skip
        _tell_alone(place, number, mine, room.said)
        _put_walked(step, which, place, number, here, walked)
        _put(number, towards, room.said, vectors, 0, OF_THE_ACCOUNT.stop)
        yield block, profiles


def _counterparties(
    steps: Merged, payments: Facts, labels: Facts, transactions: Facts, vectors: npt.NDArray[np.float32]
) -> Iterator[tuple[Block, Profiles]]:
    """As `_accounts`."""
    profiles = Profiles.room_for(BLOCK, COUNTERPARTY)
    room = _Room.of(steps, vectors)
    paid, heard, asking = (np.empty(room.most, facts.dtype) for facts in (payments, labels, transactions))
    for block in room.blocks:
        profiles.clear(block.profiles)
        step, which, towards = steps.step[block.steps], steps.which[block.steps], steps.told[block.steps]
        place, number = room.place[: len(step)], room.number[: len(step)]
        _gather(step, which, kernel.PAYMENT, payments, place, paid)
        _gather(step, which, kernel.PAYMENT_LABEL, labels, place, heard)
        _gather(step, which, kernel.QUESTION, transactions, place, asking)
        _number(towards, number)
        kernel.walk_counterparties(
            step, steps.profile[block.steps] - np.int64(block.first), place, number, paid, heard, asking, profiles.limits,
            profiles.rows, room.cells, room.said,
        )  # fmt: skip
        _put(number, towards, room.said, vectors, OF_THE_COUNTERPARTY.start, OF_THE_COUNTERPARTY.stop)
        yield block, profiles


def _packed(steps: Merged, walk: Iterator[tuple[Block, Profiles]]) -> dict[int, bytes]:
    packed: dict[int, bytes] = {}
    for block, profiles in walk:
        there = np.unique(steps.profile[block.steps])
        packed.update(zip(there.tolist(), profiles.pack(there - np.int64(block.first)), strict=True))
    return packed


class _Room(NamedTuple):
    """Memory for one block, the same for all of them: it stays in the caches."""

    blocks: list[Block]
    most: int
    """Steps of a block."""
    place: Ints
    """Of each step, among the facts of its kind."""
    number: Ints
    """Of each step that tells something, the row of `said`; UNTOLD for the others."""
    said: npt.NDArray[np.float32]
    cells: kernel.Cells

    @classmethod
    def of(cls, steps: Merged, vectors: npt.NDArray[np.float32]) -> _Room:
        blocks = steps.blocks()
        most = max((block.steps.stop - block.steps.start for block in blocks), default=0)
        said = np.empty((most if len(vectors) else 0, vectors.shape[1]), np.float32)
        return cls(blocks, most, np.empty(most, np.int64), np.empty(most, np.int64), said, kernel.Cells.room())


@compiled()
def _gather(step: Column, which: Column, kind: int, facts: Any, place: Ints, here: Any) -> None:
    """The facts that steps of this kind take, side by side, and of each such step its place among them."""
    n = 0
    for i in range(len(step)):
        if step[i] == kind:
            here[n] = facts[which[i]]
            place[i] = n
            n += 1


@compiled()
def _number(towards: Column, number: Ints) -> None:
    """Rows one after the other for the steps that tell something."""
    n = 0
    for i in range(len(towards)):
        number[i] = kernel.UNTOLD
        if towards[i] != kernel.UNTOLD:
            number[i] = n
            n += 1


@compiled()
def _tell_alone(place: Ints, number: Ints, transactions: Any, said: Any) -> None:
    """The columns that need no profile."""
    for i in range(len(number)):
        if number[i] != kernel.UNTOLD:
            kernel.describe_alone(transactions[place[i]], said[number[i]])


@compiled()
def _put_walked(step: Column, which: Column, place: Ints, number: Ints, here: Any, walked: Any) -> None:
    """What became of transactions, to the rows of each; a description of one that isn't new is forgotten."""
    for i in range(len(step)):
        if step[i] == kernel.TRANSACTION:
            w, k = which[i], place[i]
            walked.status[w], walked.late[w], walked.ratio[w] = here.status[k], here.late[k], here.ratio[k]
            if here.status[k] != kernel.NEW:
                number[i] = kernel.UNTOLD


@compiled()
def _put(number: Ints, towards: Column, said: Any, vectors: Any, begin: int, end: int) -> None:
    """Columns of each row to its place, one by one: numpy goes through a copy, numba looks first whether the two overlap."""
    for i in range(len(towards)):
        if number[i] != kernel.UNTOLD:
            to, of = np.uint64(towards[i]), np.uint64(number[i])
            for k in range(np.uint64(begin), np.uint64(end)):
                vectors[to, k] = said[of, k]
