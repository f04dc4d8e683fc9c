"""A candidate and the champion on the newest rows that had no part in either."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from features.hash_keys import PUBLIC, HashKeys
from schemas.currencies import DEFAULT_RATES
from schemas.errors import UnusableModel
from tests.builders import ID_KEY
from tests.unit.pasts import START, a_past
from training import replay
from training.attributes import made_again
from training.comparing import compare
from training.contender import Contender
from training.costs import Costs
from training.errors import TooFew
from training.gate_limits import Limits
from training.gates import quality
from training.job import train
from training.judging import Judgement
from training.narration import Silent
from training.origin import disjoint, marks
from training.reading import ReadPast
from training.settings import TrainingSettings
from training.split import known_at


def with_shops(transactions: pl.DataFrame, labels: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One shop has most of the frauds: a table that knows it tells much."""
    random = np.random.default_rng(0)
    frauds = transactions["transaction_id"].is_in(labels["transaction_id"].implode()).to_numpy()
    bad = random.random(len(frauds)) < np.where(frauds, 0.8, 0.02)
    shop = np.where(bad, "crypto", random.choice(["food", "fuel"], len(frauds)))
    return transactions.with_columns(pl.Series("attributes.shop", shop)), labels


KEYS = HashKeys.of(ID_KEY)
PAST = with_shops(*a_past())


@pytest.fixture(scope="module")
def early_and_late(tmp_path_factory: pytest.TempPathFactory) -> tuple[Contender, Contender]:
    """The same recipe, twelve days apart."""
    out = tmp_path_factory.mktemp("bundles")

    def learnt(day: int) -> Contender:
        quick: dict[str, Any] = {"trees": 20, "leaves": 7, "smallest_leaf": 5, "threads": 1, "out": out}
        until = START + timedelta(days=day)
        return Contender.read(train(*PAST, settings=TrainingSettings(train_until=until, **quick)).path)

    return learnt(26), learnt(38)


def compared(candidate: Contender, champion: Contender | None, **own: Any) -> Judgement:
    transactions, labels = PAST
    found = ReadPast(
        transactions=transactions, labels=labels, rejected=[], place=str(Path()), mapping=None, archive=None
    )
    usual: dict[str, Any] = {
        "rates": DEFAULT_RATES,
        "delay": None,
        "costs": Costs(),
        "least_frauds": 10,
        "keys": KEYS,
        "narrator": Silent(),
    }
    return compare(found, candidate, champion, **(usual | own))


def rows_of(judgement: Judgement) -> int:
    at = judgement.model.evaluation.review
    return at.caught + at.wrong + at.missed + at.passed


def test_the_rows_are_those_that_neither_were_learnt_from_nor_chose_anything(
    early_and_late: tuple[Contender, Contender],
) -> None:
    early, late = early_and_late
    transactions, _ = PAST
    mature = known_at(None, *PAST).until - timedelta(days=7)
    since = transactions["occurred_at"].is_between(late.chosen_until, mature)

    assert early.chosen_until < late.chosen_until
    for judgement in (compared(late, early), compared(early, late), compared(late, None)):
        assert rows_of(judgement) == since.sum()
    assert rows_of(compared(early, None)) > since.sum()
    fewer = compared(late, early, delay=timedelta(days=10))
    assert rows_of(fewer) < since.sum()


def test_whatever_its_tables_know_it_is_judged_with_those_from_before_the_rows(
    early_and_late: tuple[Contender, Contender],
) -> None:
    _, late = early_and_late
    past = known_at(None, *PAST)
    everybody = np.ones(past.transactions.height, bool)
    encoder = made_again(late.encoder, START, past, everybody, timedelta(days=7))  # when nothing was known
    blank = replace(late, encoder=encoder, manifest=msgspec.structs.replace(late.manifest, attributes=encoder.columns))

    described = replay.vectors(past.transactions, past.labels).vectors
    assert (late.scores(described, past.transactions) != blank.scores(described, past.transactions)).any()
    assert compared(late, blank).differences["average_precision"].high == 0
    assert compared(late, blank).model.evaluation.metrics == compared(blank, late).model.evaluation.metrics


def test_few_frauds_are_named_with_their_number(early_and_late: tuple[Contender, Contender]) -> None:
    early, late = early_and_late
    with pytest.raises(TooFew, match="are known as frauds, at least 900 are wanted"):
        compared(late, early, least_frauds=900)


def test_scores_that_are_no_numbers_are_not_compared(early_and_late: tuple[Contender, Contender]) -> None:
    early, late = early_and_late
    calibration = msgspec.structs.replace(late.manifest.calibration, slope=float("nan"))
    broken = replace(late, manifest=msgspec.structs.replace(late.manifest, calibration=calibration))
    with pytest.raises(TooFew, match="no numbers"):
        compared(broken, early)


def test_a_bundle_for_another_catalogue_is_not_asked(early_and_late: tuple[Contender, Contender]) -> None:
    early, late = early_and_late
    foreign = replace(early, manifest=msgspec.structs.replace(early.manifest, catalogue="0" * 16))
    with pytest.raises(UnusableModel, match="made for catalogue"):
        compared(late, foreign)


def elsewhere(champion: Contender, past: pl.DataFrame) -> Contender:
    """The same, learnt from another past, and a year later."""
    manifest = champion.manifest
    later = {
        name: f"{START + timedelta(days=365):%Y-%m-%dT%H:%M:%S+00:00}"
        for name in ("until", "known_until", "chosen_until")
    }
    return replace(
        champion,
        manifest=msgspec.structs.replace(manifest, trained=manifest.trained | later, learnt_from=marks(past, KEYS)),
    )


def test_a_champion_that_learnt_from_another_past_takes_no_rows_away_and_is_named(
    early_and_late: tuple[Contender, Contender],
) -> None:
    early, late = early_and_late
    other, _ = a_past(seed=1)

    judgement = compared(late, elsewhere(early, other))

    assert (judgement.champion, judgement.elsewhere) == (None, early.name)
    assert judgement.model.evaluation.metrics == compared(late, None).model.evaluation.metrics
    gates = quality(judgement, expected=early.name, limits=Limits(least_frauds=20))
    assert all(gate.passed for gate in gates)
    assert f"the champion, {early.name}, learnt from other transactions" in gates[0].said


def test_a_champion_that_learnt_from_this_very_past_still_takes_its_rows(
    early_and_late: tuple[Contender, Contender],
) -> None:
    early, late = early_and_late
    transactions, _ = PAST
    for past in (transactions, transactions.head(500), transactions.tail(100)):
        with pytest.raises(TooFew, match="of 0 transactions"):
            compared(late, elsewhere(early, past))


def test_a_champion_that_does_not_say_what_it_learnt_from_goes_by_its_dates(
    early_and_late: tuple[Contender, Contender],
) -> None:
    early, late = early_and_late
    silent = elsewhere(early, PAST[0].head(0))
    assert silent.manifest.learnt_from == ()
    with pytest.raises(TooFew, match="of 0 transactions"):
        compared(late, silent)


def test_a_champion_that_learnt_elsewhere_before_is_asked_like_any_other(
    early_and_late: tuple[Contender, Contender],
) -> None:
    early, late = early_and_late
    other, _ = a_past(seed=1)
    before = replace(early, manifest=msgspec.structs.replace(early.manifest, learnt_from=marks(other, KEYS)))

    judgement = compared(late, before)

    assert judgement.elsewhere is None
    assert judgement.champion is not None


def test_a_champion_marked_by_another_key_goes_by_its_dates(early_and_late: tuple[Contender, Contender]) -> None:
    early, late = early_and_late
    other, _ = a_past(seed=1)
    with pytest.raises(TooFew, match="of 0 transactions"):
        compared(late, elsewhere(early, other), keys=HashKeys.of("ab" * 32))


def test_any_longer_stretch_of_a_past_is_known_again_and_no_other_past() -> None:
    transactions, _ = a_past()
    marked = marks(transactions, KEYS)
    step = transactions.height // 192 + 1

    assert marked == marks(transactions, KEYS)
    stretches = [transactions[begin : begin + step] for begin in range(0, transactions.height - step, 97)]
    assert not [stretch for stretch in (*stretches, transactions.tail(1)) if disjoint(marked, stretch, KEYS)]
    assert disjoint(marked, a_past(seed=1)[0], KEYS)
    assert disjoint(marked, transactions.with_columns(pl.col("amount") + 1), KEYS)
    assert disjoint(marked, transactions.with_columns(pl.col("occurred_at") + timedelta(weeks=1)), KEYS)
    assert not disjoint(marked, a_past(seed=1)[0], HashKeys.of("ab" * 32)), "it can't be known"


def test_nobody_without_the_key_can_find_an_id_by_a_mark() -> None:
    """Ids can be listed, and what is hashed without a secret is found by hashing all there may be."""
    transactions, _ = a_past(days=5)
    assert marks(transactions, PUBLIC) == ()
    hashes, of_another = (
        {mark.rpartition("-")[2] for mark in marks(transactions, HashKeys.of(key * 32))} for key in ("ab", "ac")
    )
    assert len(hashes) > 192
    assert hashes.isdisjoint(of_another)
    listed = [f"{row['amount']} {row['transaction_id']}" for row in transactions.iter_rows(named=True)]
    assert hashes.isdisjoint(hashlib.sha256(one.encode()).hexdigest()[:16] for one in listed)
    assert hashes.isdisjoint(f"{one:016x}" for one in PUBLIC.contents.hashes_of_text(listed).tolist())
