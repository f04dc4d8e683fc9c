"""The commands: a retraining gets in through the gates, a broken bundle doesn't get in at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mlflow import MlflowClient

from features import deployments
from schemas.bundle import MANIFEST, MODEL, TREES
from schemas.deployment import Model, promoted, rolled_back
from tests.fleet.models import a_bundle
from tests.unit.deployed import (
    FakeDeployments,
    altered,
    with_another_feature,
    with_manifest,
    with_margins_that_are_no_numbers,
    with_wrong_golden_rows,
)
from tests.unit.pasts import a_past
from tests.unit.test_tracking import NOON, a_record
from training import __main__ as command
from training.gates import QUALITY
from training.job import train
from training.registered import fetch_bundle
from training.settings import TrainingSettings
from training.tracking import Tracking, tell

QUICK = ("--leaves", "7", "--smallest-leaf", "5", "--threads", "1")
FEW = ("--least-frauds", "20")
PAST = a_past(per_day=300)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("past")
    for name, table in zip(("transactions", "labels"), PAST, strict=True):
        table.write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A poor model, which is current, and a better one."""
    out = tmp_path_factory.mktemp("learnt")
    quick: dict[str, Any] = {"out": out, "leaves": 7, "smallest_leaf": 5, "threads": 1}
    return {
        name: train(*PAST, settings=TrainingSettings(trees=trees, **quick)).path
        for name, trees in (("poor", 1), ("good", 40))
    }


@pytest.fixture
def out(learnt: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(learnt["poor"].parent, tmp_path / "bundles", symlinks=True))


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> FakeDeployments:
    fake = FakeDeployments("fraud-scorer-0")
    monkeypatch.setattr(deployments, "Deployments", lambda *_: fake)
    monkeypatch.setenv("FRAUD_MLFLOW", "false")
    return fake


@pytest.fixture
def with_mlflow(topic: FakeDeployments, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    monkeypatch.setenv("FRAUD_MLFLOW", "true")
    for name in ("uri", "artifacts", "experiment", "model", "pending"):
        monkeypatch.setenv(f"FRAUD_MLFLOW_{name.upper()}", str(getattr(tracking, name)))
    return tracking


def training(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


def current(out: Path) -> str:
    return (out / "current").resolve().name


def test_a_better_model_gets_in_and_a_worse_one_doesnt(
    learnt: dict[str, Path], past: Path, out: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    poor, good = learnt["poor"].name, learnt["good"].name
    assert training(monkeypatch, "promote", good, "--on", past, "--out", out, "--json", *FEW) == 0

    said = json.loads(capsys.readouterr().out)
    assert topic.now is not None
    assert (said["champion"], topic.now.champion.bundle, current(out)) == (good, good, good)
    assert [gate["name"] for gate in said["gates"]] == [
        *QUALITY,
        "parity",
        "latency",
        "size",
        "catalogue",
        "warm-up",
        "sent-back",
        "champion",
    ]
    assert all(gate["passed"] for gate in said["gates"])
    assert said["workers"] == [{"worker": "fraud-scorer-0", "serves": True, "why": None}]

    assert training(monkeypatch, "promote", poor, "--on", past, "--out", out, *FEW) == 1
    shown, err = capsys.readouterr()
    assert "NOT passed  average-precision  " in shown
    assert f"bundle {poor} is not promoted: average-precision: " in err.splitlines()[-1]
    assert "the limit is -0.01" in err.splitlines()[-1]
    assert (topic.now.champion.bundle, topic.now.number, current(out)) == (good, 1, good)

    assert training(monkeypatch, "promote", poor, "--out", out, "--force", "we have no past here") == 0
    assert "by force" in capsys.readouterr().out
    assert topic.now.changes[-1].forced
    assert "there are no rows to judge it by: --on names a past" in topic.now.changes[-1].why


def test_a_promotion_moves_nothing_of_another_installation(
    learnt: dict[str, Path], past: Path, topic: FakeDeployments, tracking: Tracking, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two workers in one folder, beside one MLflow: the other's `current` and its alias stay what they were."""
    poor, good = learnt["poor"].name, learnt["good"].name
    monkeypatch.chdir(tmp_path)
    for folder in (".local/bundles", ".local/bank-bundles"):
        shutil.copytree(learnt["poor"].parent, folder, symlinks=True)
    monkeypatch.setenv("FRAUD_MLFLOW", "true")
    monkeypatch.setenv("FRAUD_MLFLOW_URI", tracking.uri)
    monkeypatch.setenv("FRAUD_MLFLOW_ARTIFACTS", tracking.artifacts)
    client = MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)
    for model in ("fraud-scorer", "bank-fraud-scorer"):
        for name in ("poor", "good"):
            theirs = msgspec.structs.replace(tracking, model=model, pending=tmp_path / "waits")
            tell(theirs, a_record(learnt[name]), learnt[name])
        client.set_registered_model_alias(model, "champion", "1")

    monkeypatch.setenv("FRAUD_TOPIC_PREFIX", "bank-")
    assert training(monkeypatch, "promote", good, "--on", past, *FEW) == 0

    assert (current(Path(".local/bundles")), current(Path(".local/bank-bundles"))) == (poor, good)
    aliases = [
        str(client.get_registered_model(model).aliases["champion"]) for model in ("fraud-scorer", "bank-fraud-scorer")
    ]
    assert aliases == ["1", "2"]


def test_few_new_frauds_are_refused_by_name(
    learnt: dict[str, Path], past: Path, out: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    good = learnt["good"].name
    assert training(monkeypatch, "promote", good, "--on", past, "--out", out, "--least-frauds", "1000") == 1
    assert "are known as frauds, at least 1000 are wanted" in capsys.readouterr().err
    assert topic.now is None


def test_a_champion_that_is_nowhere_lets_nobody_pass(
    learnt: dict[str, Path], past: Path, out: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    topic.now = promoted(None, Model(bundle="0" * 16), at=NOON, by="me", why="the first")
    assert training(monkeypatch, "promote", learnt["good"].name, "--on", past, "--out", out, *FEW) == 1
    assert "bundle 0000000000000000" in capsys.readouterr().err.splitlines()[-1]
    assert topic.now.number == 1


def test_a_retraining_gets_in_by_itself_or_says_why_not(
    past: Path, tmp_path: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "bundles"
    run = ("run", past, "--out", out, *QUICK, *FEW)
    assert training(monkeypatch, *run, "--trees", "1", "--current-anyway") == 0
    first = current(out)
    assert f"next        training promote {first} --on {past}" in capsys.readouterr().out

    assert training(monkeypatch, *run, "--trees", "40", "--promote", "--ap-tolerance", "0.05", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["champion"]["bundle"] == first
    assert report["promoted"]["champion"] == report["bundle"] == current(out) != first
    assert topic.now is not None
    assert topic.now.former == Model(bundle=first)

    assert training(monkeypatch, *run, "--trees", "1", "--promote") == 1
    shown, err = capsys.readouterr()
    assert "is not promoted: average-precision" in err.splitlines()[-1]
    assert "evaluation.html" in shown
    assert current(out) == report["bundle"] == topic.now.champion.bundle

    assert training(monkeypatch, *run, "--trees", "40", "--promote") == 0  # the same again: it is the champion already
    assert topic.now.number == 1

    assert training(monkeypatch, *run, "--trees", "1", "--promote", "--force", "a drill") == 0
    assert topic.now.champion.bundle == current(out) == first
    assert topic.now.changes[-1].forced
    assert "a drill" in topic.now.changes[-1].why


def test_the_same_again_is_the_champion_already_with_thresholds_like_the_champions(
    past: Path, tmp_path: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundles"
    run = ("run", past, "--out", out, *QUICK, *FEW)
    assert training(monkeypatch, *run, "--trees", "1", "--current-anyway") == 0
    again = (*run, "--trees", "40", "--promote", "--thresholds-by", "champion", "--force", "a drill")
    assert training(monkeypatch, *again) == 0
    champion = current(out)

    assert training(monkeypatch, *again) == 0
    assert current(out) == champion
    assert topic.now is not None
    assert topic.now.number == 1


def test_insisting_on_a_promotion_that_is_not_asked_for_is_refused_before_anything_is_learnt(
    past: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundles"
    assert training(monkeypatch, "run", past, "--out", out, *QUICK, *FEW, "--force", "a drill") == 2
    assert "--promote" in capsys.readouterr().err
    assert not out.exists()


def test_a_retraining_is_held_to_the_deployed_champion_not_to_current(
    learnt: dict[str, Path], past: Path, out: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    topic.now = promoted(None, Model(bundle=learnt["good"].name), at=NOON, by="me", why="the first")
    assert current(out) == learnt["poor"].name
    assert training(monkeypatch, "run", past, "--out", out, *QUICK, *FEW, "--trees", "2", "--promote", "--json") == 1
    assert json.loads(capsys.readouterr().out)["champion"]["bundle"] == learnt["good"].name


def test_the_aliases_follow_and_the_versions_remember(
    learnt: dict[str, Path], out: Path, topic: FakeDeployments, with_mlflow: Tracking, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("poor", "good"):
        tell(with_mlflow, a_record(learnt[name]), learnt[name])
    client = MlflowClient(with_mlflow.uri, with_mlflow.uri)

    def aliases() -> dict[str, str]:
        found = client.get_registered_model(with_mlflow.model).aliases
        return {alias: str(version) for alias, version in found.items()}

    assert training(monkeypatch, "promote", "1", "--out", out, "--force", "the first") == 0
    assert "version 1, is promoted by force: change 1" in capsys.readouterr().out
    assert aliases() == {"champion": "1"}
    tags = client.get_model_version(with_mlflow.model, "1").tags
    assert "the first (past its gates: average-precision" in tags["fraud.promoted.forced"]
    assert topic.now is not None
    assert topic.now.champion == Model(bundle=learnt["poor"].name, version="1")

    assert training(monkeypatch, "challenge", "2", "--share", "0.25", "--out", out) == 0
    assert aliases() == {"champion": "1", "challenger": "2"}
    assert topic.now.share == 0.25
    assert training(monkeypatch, "challenge", "--withdraw", "--why", "enough", "--out", out) == 0
    assert aliases() == {"champion": "1"}
    assert client.get_model_version(with_mlflow.model, "2").tags["fraud.withdrawn"].endswith(": enough")

    assert training(monkeypatch, "challenge", "2", "--out", out) == 0
    topic.now = rolled_back(topic.now, learnt["good"].name, at=NOON, by="worker 0", why="drift")
    assert aliases() == {"champion": "1", "challenger": "2"}
    assert training(monkeypatch, "models", "--mirror", "--out", out) == 0
    assert aliases() == {"champion": "1"}
    assert f"{learnt['good'].name} rolled-back, by worker 0: drift" in capsys.readouterr().out

    assert training(monkeypatch, "models", learnt["poor"].name, "--out", out, "--json") == 0
    life = json.loads(capsys.readouterr().out)
    assert (life["role"], life["versions"], life["serving"]) == ("champion", ["1"], ["fraud-scorer-0"])
    assert life["metrics"]["auc"] > 0.5
    assert [change["kind"] for change in life["changes"]] == ["promoted"]
    assert training(monkeypatch, "models", "0" * 16, "--out", out) == 1
    assert "nothing is known of bundle" in capsys.readouterr().err


def test_without_mlflow_a_bundle_at_hand_is_promoted_and_the_aliases_wait(
    learnt: dict[str, Path], out: Path, topic: FakeDeployments, with_mlflow: Tracking, closed_port: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("FRAUD_MLFLOW_URI", f"http://127.0.0.1:{closed_port}")
    assert training(monkeypatch, "promote", learnt["good"].name, "--out", out, "--force", "it is urgent") == 0

    shown, _ = capsys.readouterr()
    assert "MLflow's aliases wait" in shown
    assert "`training models --mirror` sets them later" in shown
    assert topic.now is not None
    assert topic.now.champion == Model(bundle=learnt["good"].name)

    assert training(monkeypatch, "fetch", "0" * 16, "--out", out) == 1
    assert "does not answer" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("challenge",), "say which bundle is to challenge, or --withdraw"),
        (("challenge", "7", "--withdraw"), "and not both"),
        (("promote", "7", "--probation", "soon"), "7d or 36h"),
        (("promote", "0" * 16), "there is no bundle 0000000000000000"),
    ],
)
def test_wrong_use_has_status_2(
    arguments: tuple[str, ...], said: str, out: Path, topic: FakeDeployments, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert training(monkeypatch, *arguments, "--out", out) == 2
    assert said in capsys.readouterr().err
    assert topic.now is None


# Broken bundles: registered, and offered to fetch and to promote.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_bundle(tmp_path_factory.mktemp("bundles")).resolve()


def cut_short(folder: Path) -> None:
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-100])


def changed(folder: Path) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace('"decline": 0.9', '"decline": 0.1'))


def too_large(folder: Path) -> None:
    with (folder / MODEL).open("r+b") as model:
        model.truncate(2 << 30)  # with nothing in it: it takes no room


def something_else(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "readme.txt").write_text("a model will follow")


def no_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


ON_ITS_WAY: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut_short, "it was changed or cut short"),
    "changed": (changed, "it was changed or cut short"),
    "lacking a file": (lambda folder: (folder / TREES).unlink(), "it has no trees.parquet"),
    "2 GB": (too_large, "at most 268,435,456 are read"),
    "no bundle": (something_else, "it has no model.onnx, bundle.json"),
}
"""What happened to it in MLflow's artifact store."""
NOT_EVEN_DOWNLOADED = ("lacking a file", "2 GB", "no bundle")
FROM_THE_BEGINNING: dict[str, tuple[Callable[[Path], object], str, int]] = {
    "a manifest that is none": (no_manifest, "bundle.json is no manifest", 2),
    "another format": (with_manifest(format=1), "has format 1", 2),
    "another catalogue": (with_manifest(catalogue="0" * 16), "catalogue: bundle", 1),
    "other features": (with_another_feature, "wants other features", 1),
    "wrong golden rows": (with_wrong_golden_rows, "parity: 1 of 64 golden rows have other margins", 1),
    "margins that are NaN": (with_margins_that_are_no_numbers, "parity: 64 of 64 margins of golden rows are no", 1),
}
"""How it was made: its digest is right."""


@pytest.mark.parametrize("kind", ON_ITS_WAY)
def test_what_broke_on_its_way_is_neither_fetched_nor_promoted(
    kind: str, bundle: Path, topic: FakeDeployments, with_mlflow: Tracking, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tell(with_mlflow, a_record(bundle), bundle)
    [model] = (tmp_path / "artifacts").rglob(MODEL)
    spoil, why = ON_ITS_WAY[kind]
    spoil(model.parent)
    if kind in NOT_EVEN_DOWNLOADED:
        monkeypatch.setattr("mlflow.artifacts.download_artifacts", None)

    for arguments in (("fetch", "1"), ("fetch", bundle.name), ("promote", "1", "--force", "urgent")):
        assert training(monkeypatch, *arguments, "--out", tmp_path / "bundles") == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(f"training: version 1 of {with_mlflow.model}")
        assert why in last
    assert not list((tmp_path / "bundles").glob("*"))
    assert topic.now is None


@pytest.mark.parametrize("kind", FROM_THE_BEGINNING)
def test_what_was_broken_from_the_beginning_is_not_promoted(
    kind: str, bundle: Path, topic: FakeDeployments, with_mlflow: Tracking, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spoil, why, status = FROM_THE_BEGINNING[kind]
    broken = altered(bundle, tmp_path, spoil)
    record = a_record(bundle, began=NOON + timedelta(hours=1))
    record.tags["fraud.bundle"] = broken.name
    tell(with_mlflow, record, broken)

    assert training(monkeypatch, "promote", "1", "--out", tmp_path / "bundles") == status
    assert why in capsys.readouterr().err.splitlines()[-1]
    assert topic.now is None


def test_a_digest_is_fetched_from_its_newest_version(bundle: Path, tracking: Tracking, tmp_path: Path) -> None:
    for hour in range(2):
        tell(tracking, a_record(bundle, began=NOON + timedelta(hours=hour)), bundle)
    client = MlflowClient(tracking.uri, tracking.uri)
    shutil.rmtree(client.get_model_version_download_uri(tracking.model, "1"))

    assert fetch_bundle(tracking, bundle.name, tmp_path / "bundles").name == bundle.name
