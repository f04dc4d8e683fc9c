"""Training sees what the worker saw: the same vectors to the bit, from the same log, by the same kernel.

In two steps.  What each verdict says it had folded is enough to compute its vector again: the checker does so.  And where
all that was known had been folded in time, the training's replay of the same transactions and labels gives these vectors.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest

from deploy.local.stack import LocalStack
from features import history
from features.catalogue import FEATURES, column
from features.hash_keys import HashKeys
from schemas.label import Label
from schemas.tables import LABEL_COLUMNS, TRANSACTION_COLUMNS
from schemas.transaction import Transaction
from tests.builders import ID_KEY
from tests.conftest import a_prefix
from tests.fleet import planted
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Life, a_label_of, message, now
from training import replay

WAVES, IN_A_WAVE = 12, 25
BEGINS = [timedelta(hours=38 * (wave // 2), minutes=30 * (wave % 2)) for wave in range(WAVES)]
"""Of each wave: twelve of them reach into every window, and past the age at which labels are expected."""


class Told:
    """A past that came in waves, each folded before the next: everything was known in time."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.transactions: list[Transaction] = []
        self.labels: list[Label] = []

    def live(self) -> None:
        start = now() - BEGINS[-1] - timedelta(hours=1)
        for wave in range(WAVES):
            # Within a wave less than the settling time passes: what is paid there, no counterparty is asked about.
            life = Life(
                seed=wave,
                accounts=9,
                counterparties=4,
                since=start + BEGINS[wave],
                every=timedelta(milliseconds=50),
                name=f"wave-{wave}",
            )
            paid = life.transactions(IN_A_WAVE)
            known = [a_label_of(one, known_at=start + BEGINS[wave]) for one in self.transactions[-IN_A_WAVE::9]]
            self.fleet.send(message(label) for label in known)
            self.fleet.wait_until_settled()
            self.fleet.send(message(one) for one in paid)
            self.fleet.wait_until_settled()
            self.labels += known
            self.transactions += paid

    def vectors(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """As the verdicts have them, by row of the transactions."""
        by_id = {verdict.transaction_id: b64decode(verdict.vector or "") for verdict in self.fleet.answers.verdicts}
        rows = [np.frombuffer(by_id[one.transaction_id], "<f4") for one in self.transactions]
        return np.stack(rows)

    def replayed(self, labels: Iterable[Label] | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """As the training has them."""
        past, known = table(self.transactions, TRANSACTION_COLUMNS), table(labels or self.labels, LABEL_COLUMNS)
        seen = replay.vectors(past, known, keys=HashKeys.of(ID_KEY))
        assert seen.accepted.all()
        return seen.vectors


def table(what: Iterable[Transaction | Label], columns: Any) -> pl.DataFrame:
    rows = [{name: getattr(one, name, 0) for name in columns} for one in what]
    return pl.DataFrame(rows, schema=columns)


@pytest.fixture(scope="module")
def told(stack: LocalStack, bundle: Path) -> Iterator[Told]:
    with Fleet(stack, a_prefix(), bundle) as fleet:
        fleet.start()
        told = Told(fleet)
        told.live()
        fleet.wait_for_verdicts(WAVES * IN_A_WAVE)
        yield told


def test_the_trainings_replay_gives_the_vectors_of_the_verdicts(told: Told) -> None:
    online, offline = told.vectors(), told.replayed()
    assert online.shape == (WAVES * IN_A_WAVE, len(FEATURES))
    assert online.tobytes() == offline.tobytes()
    for name in FEATURES:  # or equality would say little
        values = online[:, column(name)]
        assert len(np.unique(values[~np.isnan(values)])) > 1, name


def test_a_difference_in_the_training_shows(told: Told) -> None:
    assert told.vectors().tobytes() != told.replayed(told.labels[1:]).tobytes()


def test_the_checker_computes_every_vector_again(told: Told) -> None:
    report = told.fleet.check(verdicts=WAVES * IN_A_WAVE)
    assert report.vectors_compared == WAVES * IN_A_WAVE
    assert report.vectors_different_if_instant == 0, "everything was known in time"
    assert report.activity_late == 0


def test_a_difference_in_what_the_checker_computes_shows(told: Told) -> None:
    """One bit of one feature of one transaction."""
    walk = history.walk_accounts

    def off(
        steps: history.Merged, transactions: Any, labels: Any, vectors: np.ndarray[Any, np.dtype[np.float32]]
    ) -> Any:
        found = walk(steps, transactions, labels, vectors)
        if len(vectors):
            vectors[0, 4] = np.nextafter(vectors[0, 4], np.float32(1e9))
        return found

    with mock.patch("loadgen.refolding.walk_accounts", off):
        report = told.fleet.report()
    assert report.vectors_different == report.contradicting == 4, "the first of each partition"
    assert "was judged on another vector than the log gives" in report.examples[0]


def test_a_difference_in_what_the_worker_computes_shows(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.start(plant=partial(planted.see_another_vector, "tx-000050"))
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(100)
        fleet.wait_until_settled()
        report = fleet.report()
        assert not report.well
        assert report.vectors_different == report.contradicting == 1
        assert "(tx-000050) was judged on another vector" in report.examples[0]
        assert (report.lost, report.doubled, report.profiles_different) == (0, 0, 0)
