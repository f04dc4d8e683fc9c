"""A verdict's three numbers, its offset, the next label and the last activity, are enough to compute its vector again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features import facts, kernel
from features.accepting import Record
from features.catalogue import FEATURES
from features.history import Steps, walk_accounts, walk_counterparties
from schemas.activity import decode_activity
from schemas.label import decode_label
from schemas.transaction import decode_transaction
from tests.builders import RULES, Shelf
from tests.logs import Log, a_log


@dataclass(frozen=True)
class Verdict:
    """As much of one as the vector depends on."""

    offset: int
    next_label: int
    last_activity: int
    vector: bytes


def judged(log: Log, random: Random) -> list[Verdict]:
    """By a worker that polls the three topics as it happens to, and now and then folds in silence what was told before."""
    shelf = Shelf()
    at = [0, 0, 0]
    topics = (log.transactions, log.labels, log.activity)
    verdicts = []
    while at[0] < len(log.transactions):
        batch: list[list[tuple[Record, bool]]] = []
        told = random.random() < 0.9
        for i, topic in enumerate(topics):
            upto = min(at[i] + random.choice([0, 0, 1, 5, 20]), len(topic))
            batch.append([(record, told) for record in topic[at[i] : upto]])
            at[i] = upto
        described = shelf.describe(*batch)
        verdicts += [
            Verdict(taken.record.offset, at[1], activity, vector.tobytes())
            for taken, activity, vector in zip(
                described.transactions, described.folded_activity.tolist(), described.vectors, strict=True
            )
        ]
    return verdicts


def recomputed(log: Log, verdicts: list[Verdict]) -> npt.NDArray[np.float32]:
    """The vectors of these verdicts, from the log and their numbers alone."""
    n = len(log.transactions)
    vectors = np.full((n, len(FEATURES)), np.nan, np.float32)
    transactions = [decode_transaction(record.value) for record in log.transactions]
    labels = [decode_label(record.value) for record in log.labels]
    activity = [decode_activity(record.value) for record in log.activity]
    rows = facts.of_transactions(zip(transactions, range(n), strict=True), RULES)
    kernel.describe_transactions(vectors, rows)

    here = np.arange(n, dtype=np.int64)
    seen = np.zeros(n, np.int64)
    seen[[verdict.offset for verdict in verdicts]] = [verdict.next_label for verdict in verdicts]
    accounts: dict[str, int] = {}
    walk_accounts(
        Steps.merged(
            Steps.of(
                kernel.LABEL,
                profile=ints([accounts.setdefault(one.account_id, len(accounts)) for one in labels]),
                at=2 * np.arange(len(labels), dtype=np.int64) + 1,
                which=np.arange(len(labels), dtype=np.int64),
            ),
            Steps.of(
                kernel.TRANSACTION,
                profile=ints([accounts.setdefault(one.account_id, len(accounts)) for one in transactions]),
                at=2 * np.maximum.accumulate(seen),
                which=here,
                told=here,
            ),
        ),
        rows,
        facts.of_labels(labels, RULES),
        vectors,
    )

    shops: dict[str | None, int] = {None: -1}
    asked = [transactions[verdict.offset] for verdict in verdicts]
    heard = facts.of_activity((one, 0) for one in activity)
    asking = ints([verdict.offset for verdict in verdicts])
    walk_counterparties(
        Steps.merged(
            Steps.of(
                heard.step,
                profile=ints([shops.setdefault(one.counterparty_id, len(shops)) for one in activity]),
                at=2 * np.arange(len(activity), dtype=np.int64),
                which=heard.which,
            ),
            Steps.of(
                kernel.QUESTION,
                profile=ints([shops.setdefault(one.counterparty_id, len(shops)) for one in asked]),
                at=ints([2 * verdict.last_activity + 1 for verdict in verdicts]),
                which=asking,
                told=asking,
            ),
        ),
        heard.payments,
        heard.labels,
        rows,
        vectors,
    )
    return vectors[[verdict.offset for verdict in verdicts]]


def ints(values: list[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("seed", range(12))
def test_a_verdicts_vector_is_computed_again_from_the_log(seed: int) -> None:
    log = a_log(seed % 3 + 1)
    verdicts = judged(log, Random(seed))

    assert len(verdicts) > 50
    assert recomputed(log, verdicts).tobytes() == b"".join(verdict.vector for verdict in verdicts)


@pytest.mark.parametrize("wrong", [{"next_label": 0}, {"last_activity": 10_000}])
def test_with_another_number_it_would_be_another_vector(wrong: dict[str, Any]) -> None:
    log = a_log(1)
    verdicts = judged(log, Random(1))
    otherwise = [replace(verdict, **wrong) for verdict in verdicts]

    assert recomputed(log, otherwise).tobytes() != b"".join(verdict.vector for verdict in verdicts)


def test_batches_that_began_elsewhere_judge_otherwise_and_say_so() -> None:
    """A vector depends on how the topics interleaved; that is why the numbers are there."""
    log = a_log(1)
    one, other = judged(log, Random(1)), judged(log, Random(2))

    assert {v.offset: v.vector for v in one} != {v.offset: v.vector for v in other}
    assert recomputed(log, other).tobytes() == b"".join(verdict.vector for verdict in other)
