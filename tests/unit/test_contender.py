"""A new model is judged beside the one in use, on the same rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from features.catalogue import DIGEST, FEATURES
from features.hash_keys import HashKeys
from schemas.bundle import MANIFEST, MODEL, digest_of, make_current
from schemas.errors import UnusableModel
from streaming.bundle import LoadedBundle
from tests.builders import ID_KEY
from tests.unit.pasts import START, a_past
from training import replay
from training.calibration import probabilities
from training.contender import Contender
from training.job import TrainedBundle, report, train
from training.narration import Silent
from training.settings import TrainingSettings
from training.split import known_at

TRANSACTIONS, LABELS = a_past()
KEYS = HashKeys.of(ID_KEY)
WITH_ATTRIBUTE = TRANSACTIONS.with_columns((pl.col("amount") % 7).cast(pl.String).alias("attributes.code"))


class Listening(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.warned: list[str] = []

    def warn(self, what: str) -> None:
        self.warned.append(what)


def trained(out: Path, narrator: Silent | None = None, keys: HashKeys = KEYS, **settings: Any) -> TrainedBundle:
    usual: dict[str, Any] = {"trees": 20, "leaves": 7, "smallest_leaf": 5, "threads": 1, "out": out}
    return train(WITH_ATTRIBUTE, LABELS, settings=TrainingSettings(**(usual | settings)), keys=keys, narrator=narrator)


def test_the_first_model_has_no_champion_and_the_next_is_held_to_it(tmp_path: Path) -> None:
    first, second = trained(tmp_path, trees=5), trained(tmp_path)

    assert first.judgement.champion is None
    assert msgspec.json.decode(report(first, {}))["champion"] is None
    champion = second.judgement.champion
    assert champion is not None
    assert champion.name == first.path.name
    # The rows are the same ones, and so is the model: it does as it did.
    assert champion.evaluation.metrics["auc"] == pytest.approx(first.metrics["auc"], abs=0.01)
    said = msgspec.json.decode(report(second, {}))["champion"]
    assert said["bundle"] == first.path.name
    assert set(said["differences"]) == set(msgspec.json.decode(report(second, {}))["intervals"])
    assert first.path.name in (second.path / "evaluation.html").read_text()


def test_without_attributes_the_champion_does_exactly_as_it_did(tmp_path: Path) -> None:
    first, second = trained(tmp_path, trees=5, attributes=()), trained(tmp_path, attributes=())

    assert second.judgement.champion is not None
    assert second.judgement.champion.evaluation.metrics == first.metrics
    assert second.judgement.champion.intervals == first.judgement.model.intervals
    assert not second.judgement.champion.knew


def test_the_champion_leaves_no_trace_in_the_bundle(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone")
    trained(tmp_path / "other", trees=5)

    assert trained(tmp_path / "other").path.name == alone.path.name


def test_its_scores_are_what_a_worker_would_have_said(tmp_path: Path) -> None:
    first = trained(tmp_path)
    champion = Contender.in_use(tmp_path)
    assert champion is not None
    described = replay.vectors(WITH_ATTRIBUTE, LABELS).vectors[-500:]
    kept = WITH_ATTRIBUTE.tail(500)

    bundle = LoadedBundle.load(first.path, features=FEATURES, catalogue=DIGEST)
    margins = bundle.margins(np.hstack([described, bundle.encoder.encode_table(kept)]))
    assert champion.scores(described, kept).tolist() == probabilities(margins, bundle.manifest.calibration).tolist()


def test_a_champion_that_learnt_from_the_rows_is_told_apart(tmp_path: Path) -> None:
    late = trained(tmp_path, trees=5, attributes=(), label_delay=timedelta(days=4), validation=timedelta(days=3))
    champion = Contender.in_use(tmp_path)
    assert champion is not None

    assert champion.knew(START)
    assert not champion.knew(START + timedelta(days=90))
    assert str(late.manifest.trained["until"]) < (START + timedelta(days=36)).isoformat()
    early = trained(tmp_path, attributes=(), train_until=START + timedelta(days=35))
    assert early.judgement.champion is not None
    assert early.judgement.champion.knew


def test_a_champion_that_learnt_from_another_past_is_no_comparison_and_is_named(tmp_path: Path) -> None:
    other, labels = a_past(seed=1)
    later = (
        other.with_columns(pl.col("occurred_at") + timedelta(days=365)),
        labels.with_columns(pl.col("occurred_at", "known_at") + timedelta(days=365)),
    )
    quick: dict[str, Any] = {"trees": 5, "leaves": 7, "smallest_leaf": 5, "threads": 1, "out": tmp_path}
    champion = train(*later, settings=TrainingSettings(**quick), keys=KEYS).path.name
    narrator = Listening()

    mine = trained(tmp_path, narrator)

    assert (mine.judgement.champion, mine.judgement.elsewhere) == (None, champion)
    assert [what for what in narrator.warned if champion in what and "learnt from other transactions" in what]
    assert msgspec.json.decode(report(mine, {}))["learnt_elsewhere"] == champion
    page = (mine.path / "evaluation.html").read_text()
    assert champion in page
    assert "no comparison" in page


def test_a_champion_is_judged_with_tables_that_know_nothing_of_the_rows(tmp_path: Path) -> None:
    early = trained(tmp_path, trees=5, train_until=START + timedelta(days=25))
    champion, past = Contender.in_use(tmp_path), known_at(None, WITH_ATTRIBUTE, LABELS)
    assert champion is not None
    everybody = np.ones(past.transactions.height, bool)

    def as_of(day: int) -> Contender:
        assert champion is not None
        return champion.as_of(START + timedelta(days=day), past, everybody, timedelta(days=7))

    assert as_of(26) is champion
    then = as_of(20)
    assert then.encoder.columns != champion.encoder.columns
    assert then.encoder.features == champion.encoder.features == early.manifest.features[len(FEATURES) :]
    late = trained(tmp_path, trees=5, train_until=START + timedelta(days=20))
    assert then.encoder.attributes == Contender.read(late.path).encoder.attributes


def test_a_champion_does_as_it_did_when_it_is_asked_again(tmp_path: Path) -> None:
    first, second = trained(tmp_path, trees=5), trained(tmp_path)

    assert second.judgement.champion is not None
    assert first.manifest.attributes
    assert second.judgement.champion.evaluation.metrics == first.metrics
    assert not second.judgement.champion.knew


def with_another_catalogue(folder: Path) -> None:
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest | {"catalogue": "0" * 16}))
    make_current(folder.rename(folder.with_name(digest_of(folder))))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (with_another_catalogue, "catalogue 0000000000000000"),
        (lambda folder: (folder / MODEL).unlink(), "has no model.onnx"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "changed or cut short"),
    ],
)
def test_a_champion_that_can_not_be_asked_is_said_and_the_run_goes_on(tmp_path: Path, spoil: Any, said: str) -> None:
    spoil(trained(tmp_path, trees=5).path)
    with pytest.raises(UnusableModel, match=said):
        Contender.in_use(tmp_path)

    narrator = Listening()
    assert trained(tmp_path, narrator).judgement.champion is None
    assert any("no champion to compare with" in what and said in what for what in narrator.warned)
