"""A run leaves a bundle that a worker serves, or says what would do and leaves nothing."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.catalogue import DIGEST, FEATURES
from schemas.bundle import DIGESTED, EVALUATION, MODEL, digest_of
from streaming.bundle import LoadedBundle
from streaming.reasons import Explainer
from tests.unit.pasts import START, a_past
from training import __main__ as command
from training import job, replay
from training.contender import Contender
from training.errors import ParityBroken, UnusablePast
from training.job import GOLDEN_ROWS, TrainedBundle, golden_rows, report, train, usual
from training.learners.lightgbm import FittedLightGBM
from training.narration import Narrator, Silent
from training.settings import Policy, TrainingSettings
from training.split import known_at

PAST = a_past()


class Listening(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.warned: list[str] = []

    def warn(self, what: str) -> None:
        self.warned.append(what)


class Heard(Silent):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, what: str) -> None:
        self.warnings.append(what)


def trained(
    out: Path,
    past: tuple[pl.DataFrame, pl.DataFrame] = PAST,
    narrator: Narrator | None = None,
    **settings: Any,
) -> TrainedBundle:
    defaults: dict[str, Any] = {"trees": 20, "leaves": 7, "smallest_leaf": 5, "threads": 1, "out": out}
    return train(*past, settings=TrainingSettings(**(defaults | settings)), narrator=narrator)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    return trained(tmp_path_factory.mktemp("bundles"))


def load(folder: Path) -> LoadedBundle:
    return LoadedBundle.load(folder, features=FEATURES, catalogue=DIGEST)


def test_a_worker_serves_and_explains_what_was_trained(one: TrainedBundle) -> None:
    bundle = load(one.path.parent / "current")

    assert bundle.name == one.path.name == digest_of(one.path)
    assert bundle.manifest == one.manifest
    explainer = Explainer(bundle, currency="EUR")
    assert explainer.contributions(bundle.golden()[0]).shape == (GOLDEN_ROWS, len(one.manifest.features))
    assert {path.name for path in one.path.iterdir()} == {*DIGESTED, EVALUATION}


def test_a_bundle_knows_what_is_usual(one: TrainedBundle) -> None:
    vectors = np.array([[1, np.nan, 5], [2, np.nan, np.inf], [9, 4, 6], [3, np.nan, 7]], np.float32)

    assert usual(vectors, "abc") == {"a": 2.0, "b": None, "c": 6.0}
    assert one.manifest.usual.keys() == set(one.manifest.features)
    assert (one.manifest.usual["amount"] or 0) > 0


def test_it_learns(one: TrainedBundle) -> None:
    assert one.metrics["auc"] > 0.8
    assert one.metrics["average_precision"] > 5 * one.metrics["fraud_share"]


def test_the_golden_rows_are_transactions_as_the_worker_would_have_seen_them(one: TrainedBundle) -> None:
    vectors, _ = load(one.path).golden()
    seen = {vector.tobytes() for vector in replay.vectors(*PAST).vectors}

    assert all(vector[: len(FEATURES)].tobytes() in seen for vector in vectors)
    assert np.isnan(vectors).any()


def test_the_same_seed_past_and_code_give_the_same_digest(one: TrainedBundle, tmp_path: Path) -> None:
    again = trained(tmp_path, threads=2)

    assert again.path.name == one.path.name
    assert trained(tmp_path, seed=1).path.name != one.path.name


def test_folds_are_reported_and_change_nothing_of_the_model(one: TrainedBundle, tmp_path: Path) -> None:
    folded = trained(tmp_path, folds=2)
    precisions = [fold.average_precision for fold in folded.folds]

    assert folded.metrics["prequential_average_precision"] == pytest.approx(np.mean(precisions))
    assert folded.metrics.items() >= one.metrics.items()
    assert (folded.path / MODEL).read_bytes() == (one.path / MODEL).read_bytes()
    assert not one.folds
    assert json.loads(report(folded, {}))["folds"][0]["average_precision"] == precisions[0]


def test_the_first_one_becomes_current_and_the_others_wait(tmp_path: Path) -> None:
    first, second = trained(tmp_path), trained(tmp_path, seed=1)

    assert (tmp_path / "current").resolve() == first.path.resolve()
    assert second.path.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {first.path.name, second.path.name, "current"}


def test_a_model_that_flags_nothing_says_so_and_is_put_in_use_only_if_somebody_insists(tmp_path: Path) -> None:
    heard = Heard()
    free: dict[str, Any] = {"thresholds_by": Policy.COST, "cost_missed_share": 0.0, "cost_missed_fixed": 0.0}
    made = trained(tmp_path, narrator=heard, current_anyway=False, **free)

    assert json.loads(report(made, {}))["flags_nothing"]
    assert any(said.startswith("this model flags nothing: by the policy cost") for said in heard.warnings)
    assert any("--current-anyway" in said for said in heard.warnings)
    assert not (tmp_path / "current").exists()
    trained(tmp_path, **free)
    assert (tmp_path / "current").resolve() == made.path.resolve()


def test_the_capacity_bounds_the_alerts(tmp_path: Path) -> None:
    few = trained(tmp_path, review_per_day=1.5, review_precision=0.0, trees=80)
    share = trained(tmp_path, review_share=0.05, review_precision=0.0)

    # The thresholds were chosen by other rows: of those that judge there may be some more.
    assert 0 < few.metrics["alerts_per_day"] <= 2 * 1.5
    assert share.metrics["alerts_per_day"] <= 2 * 0.05 * 120
    assert few.manifest.thresholds.review > share.manifest.thresholds.review


def test_duplicates_are_neither_learnt_from_nor_judged_by(one: TrainedBundle, tmp_path: Path) -> None:
    transactions, labels = PAST
    twice = pl.concat([transactions, transactions.tail(2_000)]).sort("occurred_at", maintain_order=True)
    other = trained(tmp_path, (twice, labels))

    for count in ("rows", "frauds", "validation_rows", "validation_frauds"):
        assert other.manifest.trained[count] == one.manifest.trained[count]


def test_the_rows_that_judge_choose_nothing(tmp_path: Path) -> None:
    """Other labels of them: the same trees, calibration and thresholds, and other figures."""
    transactions, labels = PAST
    first = trained(tmp_path, PAST, attributes=(), trees=60)
    since = datetime.fromisoformat(str(first.manifest.trained["test_from"]))
    judged = transactions.filter(pl.col("occurred_at") >= since)["transaction_id"]
    found = pl.Series([name[-1] < "5" for name in labels["transaction_id"]])
    fewer = labels.filter(~labels["transaction_id"].is_in(judged.implode()) | found)
    other = trained(tmp_path, (transactions, fewer), attributes=(), trees=60, train_until=known_at(None, *PAST).until)

    assert 0 < other.manifest.trained["test_frauds"] < first.manifest.trained["test_frauds"]  # type: ignore[operator]
    assert (other.path / MODEL).read_bytes() == (first.path / MODEL).read_bytes()
    assert other.manifest.calibration == first.manifest.calibration
    assert other.manifest.thresholds == first.manifest.thresholds
    assert other.metrics != first.metrics


def test_a_bundle_says_until_when_anything_of_it_was_chosen(one: TrainedBundle, tmp_path: Path) -> None:
    said = one.manifest.trained

    assert said["chosen_until"] == said["validation_until"] == said["test_from"]
    assert Contender.read(one.path).chosen_until.isoformat() == said["test_from"]
    assert not one.judgement.model.knew
    searched = trained(tmp_path, learners_until=known_at(None, *PAST).until)
    assert searched.manifest.trained["chosen_until"] == known_at(None, *PAST).until.isoformat()
    assert searched.judgement.model.knew


def test_one_fraud_among_the_newest_rows_is_too_few_to_choose_and_to_judge_and_that_is_said(tmp_path: Path) -> None:
    transactions, labels = PAST
    newest = transactions.filter(pl.col("occurred_at") >= START + timedelta(days=24))["transaction_id"]
    one_of_them = labels.filter(~labels["transaction_id"].is_in(newest[:-1_000].implode()))
    kept = one_of_them.filter(~one_of_them["transaction_id"].is_in(newest.implode()))
    last = one_of_them.filter(one_of_them["transaction_id"].is_in(newest.implode())).head(1)
    narrator = Listening()
    found = train(
        transactions,
        pl.concat([kept, last]),
        settings=TrainingSettings(
            trees=5, leaves=7, smallest_leaf=5, threads=1, out=tmp_path, train_until=known_at(None, *PAST).until,
            label_delay=timedelta(days=3),
        ),
        narrator=narrator,
    )  # fmt: skip

    assert any("the same rows choose" in what and "figures are too good" in what for what in narrator.warned)
    assert found.judgement.model.knew
    assert found.manifest.trained["chosen_until"] == found.manifest.trained["test_until"]
    assert json.loads(report(found, {}))["knew_some_of_the_rows"]
    assert "expect live figures below these" in (found.path / EVALUATION).read_text()


def test_golden_rows_hold_what_lacks_most_and_what_is_most_suspicious() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5_000, 6)).astype(np.float32)
    vectors[4_000:4_040, :5] = np.nan
    margins = random.normal(size=5_000)
    rows = golden_rows(vectors, margins, seed=0)

    assert len(rows) == len(set(rows.tolist())) == GOLDEN_ROWS
    assert set(range(4_000, 4_040)) <= set(rows.tolist())
    assert set(np.argsort(-margins)[:60].tolist()) <= set(rows.tolist())
    assert golden_rows(vectors[:10], margins[:10], seed=0).tolist() == list(range(10))


def test_a_graph_that_differs_in_one_bit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = trained(tmp_path)

    def almost(_: object, vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        margins = np.zeros(len(vectors))
        margins[0] = 5e-324
        return margins

    monkeypatch.setattr(FittedLightGBM, "margins", almost)
    with pytest.raises(ParityBroken, match="nothing was written"):
        trained(tmp_path, seed=1)
    assert {path.name for path in tmp_path.iterdir()} == {before.path.name, "current"}


def test_a_currency_without_a_rate_says_where_to_set_it(tmp_path: Path) -> None:
    transactions, labels = PAST
    with pytest.raises(UnusablePast, match=r"XAU.*FRAUD_RATES__XAU"):
        trained(tmp_path, (transactions.with_columns(pl.lit("XAU").alias("currency")), labels))


# The command


@pytest.fixture
def past(tmp_path: Path) -> Path:
    folder = tmp_path / "past"
    folder.mkdir()
    PAST[0].write_parquet(folder / "transactions.parquet")
    PAST[1].write_parquet(folder / "labels.parquet")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", *(str(argument) for argument in arguments)])
    monkeypatch.setenv("FRAUD_MLFLOW", "false")
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


QUICK = ("--trees", "20", "--leaves", "7", "--smallest-leaf", "5", "--threads", "1")


def test_the_command_reports_as_json_and_tells_what_it_does_beside(
    past: Path, one: TrainedBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", past, "--out", past.parent / "bundles", "--json", *QUICK) == 0

    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["bundle"] == one.path.name
    assert report["metrics"] == one.metrics
    assert set(report["seconds"]) == {
        "read",
        "validate",
        "join",
        "describe",
        "encode",
        "fit",
        "judge",
        "export",
        "write",
    }
    assert Path(report["path"]).is_dir()
    assert "fitting lightgbm to" in err


def test_the_command_sums_up_for_people(
    past: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    until = (START + timedelta(days=35)).isoformat()
    assert (
        run(monkeypatch, "run", past, "--out", past / "b", "--train-until", until, "--label-delay", "84h", *QUICK) == 0
    )

    out, _ = capsys.readouterr()
    assert "average_precision" in out
    assert "evaluation.html" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--train-until", "yesterday"), "no moment with its offset"),
        (("--label-delay", "a week"), "7d or 36h"),
        (("--label-delay", "30d"), "nothing is mature enough"),
        (("--train-until", "2020-01-01T00:00:00Z"), "later than 2020-01-01"),
        (("--review-share", "0"), "review_share must be above 0"),
        (("--mapping", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_wrong_use_has_status_2_and_leaves_nothing(
    arguments: tuple[str, ...], said: str, past: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, "run", past, "--out", past / "bundles", *QUICK, *arguments) == 2

    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert out == ""
    assert not (past / "bundles").exists()


def test_a_past_that_is_not_there_has_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", tmp_path / "nowhere") == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_broken_parity_has_status_1(
    past: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ParityBroken("3 of 9 margins differ")

    monkeypatch.setattr(job, "require_parity", broken)
    assert run(monkeypatch, "run", past, "--out", past / "bundles", *QUICK) == 1
    assert "3 of 9" in capsys.readouterr().err
    assert not (past / "bundles").exists()
