"""A model that learnt from what transactions carry, and workers that score with it."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from deploy.local.stack import LocalStack
from features.attributes import Encoder
from features.catalogue import DIGEST, FEATURES
from features.log import Log
from schemas.encoding import encode_transactions
from schemas.topics import EXPLANATIONS
from schemas.transaction import decode_transaction
from schemas.verdict import Outcome, decode_explanation
from streaming.bundle import LoadedBundle
from tests.conftest import a_prefix
from tests.fleet.fleet import Fleet
from tests.fleet.messages import a_transaction, message, now
from tests.unit.pasts import a_past
from training.job import TrainedBundle, train
from training.settings import TrainingSettings

LIVE = 1_000
STRANGE: tuple[dict[str, Any], ...] = (
    {"shop": "never seen"}, {}, {"shop": 7, "tip": "a lot"}, {"shop": True, "tip": "12.5"}, {"shop": "", "tip": True},
    {"shop": "x" * 1_000, "tip": 10**300}, {"something": "new"},
)  # fmt: skip
"""What no row of the past carries so."""


@dataclass
class Scene:
    past: tuple[pl.DataFrame, pl.DataFrame]
    live: pl.DataFrame
    frauds: set[str]
    bundle: TrainedBundle
    without: TrainedBundle
    fleet: Fleet

    def verdicts(self) -> list[tuple[bool, float, npt.NDArray[np.float32]]]:
        """Of the live transactions: whether it is a fraud, the score, the vector."""
        known = set(self.live["transaction_id"].to_list())
        return [
            (one.transaction_id in self.frauds, one.score, np.frombuffer(b64decode(one.vector or ""), "<f4"))
            for one in self.fleet.answers.verdicts
            if one.transaction_id in known
        ]


def a_past_with_a_shop() -> tuple[pl.DataFrame, pl.DataFrame, set[str]]:
    """That ends now: most frauds are at one kind of shop, where few others go."""
    transactions, labels = a_past(days=60, per_day=200)
    shift = now() - transactions["occurred_at"].to_list()[-1]
    transactions = transactions.with_columns(pl.col("occurred_at") + shift)
    labels = labels.with_columns(pl.col("occurred_at") + shift, pl.col("known_at") + shift)
    frauds = transactions["transaction_id"].is_in(labels["transaction_id"].to_list()).to_numpy()
    random = np.random.default_rng(5)
    rows = len(frauds)
    there = random.random(rows) < np.where(frauds, 0.7, 0.04)
    shop = np.where(there, "crypto", random.choice(["food", "fuel", "books"], rows))
    said = pl.Series(random.random(rows) < 0.9)
    carrying = transactions.with_columns(
        pl.when(said).then(pl.Series(shop)).alias("attributes.shop"),
        pl.when(said).then(pl.Series(random.integers(0, 9, rows))).alias("attributes.tip"),
    )
    return carrying, labels, set(labels["transaction_id"].to_list())


@pytest.fixture(scope="module")
def scene(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    transactions, labels, frauds = a_past_with_a_shop()
    past, live = transactions[:-LIVE], transactions[-LIVE:]
    heard = labels.filter(pl.col("known_at") < live["occurred_at"][0])
    quick: dict[str, Any] = {"trees": 40, "leaves": 7, "smallest_leaf": 20, "threads": 1}

    def trained(name: str, **own: Any) -> TrainedBundle:
        out = tmp_path_factory.mktemp(name)
        return train(past, heard, settings=TrainingSettings(out=out, **(quick | own)))

    bundle, without = trained("with"), trained("without", attributes=())
    # Nothing is loaded, and of strangers the model thinks little that is certain: a low threshold lets it say why.
    with Fleet(stack, a_prefix(), bundle.path.parent / "current", review=0.01, decline=0.99) as fleet:
        fleet.start()
        messages = [decode_transaction(value) for value in encode_transactions(live).values]
        messages += [a_transaction(f"strange-{i}", attributes=carried) for i, carried in enumerate(STRANGE)]
        fleet.send(message(one) for one in messages)
        fleet.wait_for_verdicts(len(messages))
        yield Scene((past, heard), live, frauds, bundle, without, fleet)


def test_what_the_model_learns_from_attributes_reaches_the_verdicts(scene: Scene) -> None:
    frauds, scores, vectors = zip(*scene.verdicts(), strict=True)
    plain = LoadedBundle.load(scene.without.path, features=FEATURES, catalogue=DIGEST)
    without = plain.margins(np.stack(vectors)[:, : len(FEATURES)])

    assert len(scores) == LIVE
    assert average_precision_score(frauds, scores) > 1.25 * average_precision_score(frauds, without)


def test_every_vector_is_computed_again_attributes_and_all(scene: Scene) -> None:
    report = scene.fleet.check(verdicts=LIVE + len(STRANGE), dead_lettered={})

    assert report.vectors_compared_in_full == LIVE + len(STRANGE)


def test_the_columns_behind_the_catalogues_are_those_of_the_trainings_frozen_tables(scene: Scene) -> None:
    by_id = {one.transaction_id: b64decode(one.vector or "") for one in scene.fleet.answers.verdicts}
    frozen = Encoder.load(scene.bundle.path).encode_table(scene.live)
    told = [by_id[name][4 * len(FEATURES) :] for name in scene.live["transaction_id"]]

    assert b"".join(told) == frozen.tobytes()
    assert (~np.isnan(frozen)).any(axis=0).all()
    assert np.isnan(frozen).any()


def test_an_alert_names_the_attribute_and_its_value(scene: Scene) -> None:
    reasons = [reason for alert in scene.fleet.answers.alerts for reason in alert.reasons if alert.reasons != "pending"]

    assert "frauds among payments with shop 'crypto'" in {reason.meaning for reason in reasons}  # type: ignore[union-attr]


def test_the_explainer_names_them_as_well(scene: Scene, stack: LocalStack) -> None:
    own: dict[str, Any] = {"reasons_share": 0, "vectors": False, "review": 0.01, "decline": 0.99}
    with Fleet(stack, a_prefix(), scene.bundle.path.parent / "current", **own) as fleet:
        fleet.start()
        explainer = fleet.launch_explainer()
        fleet.send(message(decode_transaction(value)) for value in encode_transactions(scene.live).values)
        fleet.wait_for_verdicts(LIVE)
        flagged = sum(verdict.outcome is not Outcome.APPROVE for verdict in fleet.answers.verdicts)
        fleet.wait_for(lambda answers: len(answers.alerts) >= flagged)
        alerts = {alert.verdict.transaction_id: alert for alert in fleet.answers.alerts}
        fleet.wait_until_explained(len(alerts))
        report = fleet.check(explanations=len(alerts), awaited=0)

        assert report.vectors_compared_in_full == LIVE
        assert explainer.metric("fraud_unexplainable_total") == 0
        with Log(fleet.settings) as log:
            told = [
                decode_explanation(record.value)
                for number in range(fleet.settings.partitions)
                for records in log.read(EXPLANATIONS, number, *log.bounds(EXPLANATIONS, number))
                for record in records
            ]
    shops = {
        alerts[one.transaction_id].transaction.attributes["shop"]: reason.text
        for one in told
        for reason in one.reasons
        if reason.meaning.startswith("frauds among payments with shop")
    }
    assert re.fullmatch(r"frauds among payments with shop 'crypto': 0\.\d+, usually 0\.\d+", shops["crypto"] or "")


def test_without_the_bundle_the_catalogues_part_is_compared(scene: Scene, tmp_path: Path) -> None:
    report = scene.fleet.report(bundles=tmp_path)

    assert report.well
    assert report.vectors_compared == LIVE + len(STRANGE)
    assert report.vectors_compared_in_full == 0


def test_a_bundle_that_is_not_what_its_name_says_is_not_at_hand(scene: Scene, tmp_path: Path) -> None:
    copy = shutil.copytree(scene.bundle.path, tmp_path / scene.bundle.path.name)
    (copy / "attributes.json").write_bytes((scene.without.path / "attributes.json").read_bytes())

    assert scene.fleet.report(bundles=tmp_path).vectors_compared_in_full == 0


def test_another_table_than_the_bundles_would_show(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Encoder.encode

    def off(encoder: Encoder, transactions: Any) -> Any:
        return np.nextafter(encode(encoder, transactions), np.float32(9))

    monkeypatch.setattr(Encoder, "encode", off)
    report = scene.fleet.report()

    assert not report.well
    assert report.vectors_different > 0.8 * LIVE
