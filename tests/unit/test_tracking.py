"""What a run leaves in MLflow, when MLflow is there, when it is away, and when somebody dies in between."""

from __future__ import annotations

import json
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient

from schemas.bundle import BUNDLE_TAG, CATALOGUE_TAG, MANIFEST, MODEL, TREES, Manifest, digest_of
from schemas.errors import UnusableModel, WrongSettings
from tests.fleet.models import a_bundle
from tests.unit.pasts import a_past
from training import __main__ as command
from training import pending
from training.errors import MLflowAway
from training.pending import DATA_TAG, Record, record_of
from training.prequential import Judged
from training.registered import fetch_bundle
from training.settings import TrainingSettings
from training.tracking import Told, Tracking, tell, upload
from training.versions import Source, code_version

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUICK = ("--trees", "20", "--leaves", "7", "--smallest-leaf", "5", "--threads", "1")
NOT_MINUTES = pytest.mark.timeout(100)
"""MLflow itself and the drivers would try for more than four minutes."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_bundle(tmp_path_factory.mktemp("bundles")).resolve()


def a_record(bundle: Path, *, began: datetime = NOON) -> Record:
    return record_of(
        bundle,
        msgspec.json.decode((bundle / MANIFEST).read_bytes(), type=Manifest),
        [a_fold(0.6), a_fold(0.8)],
        TrainingSettings(seed=7),
        began=began,
        ended=began + timedelta(seconds=90),
        source=Source(name="payments.csv", digest="d" * 64),
        code="c0ffee",
        seconds={"fit": 1.5},
    )


def a_fold(precision: float) -> Judged:
    return Judged(
        at=NOON,
        until=NOON,
        rows=9,
        frauds=1,
        validation_rows=9,
        validation_frauds=1,
        average_precision=precision,
        auc=0.9,
    )


def away(tracking: Tracking, port: int) -> Tracking:
    return msgspec.structs.replace(tracking, uri=f"http://127.0.0.1:{port}")


def client(tracking: Tracking) -> MlflowClient:
    return MlflowClient(tracking.uri, tracking.uri)


def told(tracking: Tracking, bundle: Path) -> Told:
    return tell(tracking, a_record(bundle), bundle)


def test_mlflow_has_all_that_a_run_was_made_of_and_came_to(tracking: Tracking, bundle: Path) -> None:
    answer = told(tracking, bundle)
    run = client(tracking).get_run(answer.run or "")

    assert answer.waits is None
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1772366400000, 1772366490000)
    assert {
        "settings.seed": "7",
        "learner.name": "LightGBM",
        "threshold.review": "0.5",
    }.items() <= run.data.params.items()
    assert run.data.params["settings.label_delay"] == "7 days, 0:00:00"
    assert run.data.metrics["seconds.fit"] == 1.5
    assert {
        "mlflow.source.git.commit": "c0ffee",
        BUNDLE_TAG: bundle.name,
        DATA_TAG: "d" * 64,
    }.items() <= run.data.tags.items()
    folds = client(tracking).get_metric_history(answer.run or "", "fold_average_precision")
    assert [(fold.step, fold.value) for fold in folds] == [(1, 0.6), (2, 0.8)]
    assert not pending.waiting(tracking.pending)


def test_every_run_is_a_version_of_the_registered_model(tracking: Tracking, bundle: Path) -> None:
    first, second = told(tracking, bundle), told(tracking, bundle)
    version = client(tracking).get_model_version(tracking.model, second.version or "")

    assert (first.version, second.version) == ("1", "2")
    assert version.run_id == second.run
    assert version.tags.keys() == {BUNDLE_TAG, CATALOGUE_TAG}
    assert version.tags[BUNDLE_TAG] == bundle.name


def test_a_bundle_is_fetched_by_version_and_by_alias(tracking: Tracking, bundle: Path, tmp_path: Path) -> None:
    version = told(tracking, bundle).version or ""
    client(tracking).set_registered_model_alias(tracking.model, "champion", version)

    by_version = fetch_bundle(tracking, version, tmp_path / "one")
    by_alias = fetch_bundle(tracking, "champion", tmp_path / "two")

    assert by_version.name == by_alias.name == digest_of(by_version) == bundle.name
    assert {file.name: file.read_bytes() for file in by_alias.iterdir()} == {
        file.name: file.read_bytes() for file in bundle.iterdir()
    }
    assert [folder.name for folder in (tmp_path / "one").iterdir()] == [bundle.name]


def test_a_bundle_that_is_there_is_not_downloaded_again(tracking: Tracking, bundle: Path, tmp_path: Path) -> None:
    version = told(tracking, bundle).version or ""
    there = fetch_bundle(tracking, version, tmp_path / "bundles")
    shutil.rmtree(tmp_path / "artifacts")

    assert fetch_bundle(tracking, version, tmp_path / "bundles") == there

    (there / TREES).write_bytes(b"")
    with pytest.raises(UnusableModel, match="changed or cut short"):
        fetch_bundle(tracking, version, tmp_path / "bundles")


@pytest.mark.parametrize("spoil", ["changed", "missing", "all missing"])
def test_what_is_not_what_was_registered_is_refused_and_leaves_nothing(
    spoil: str, tracking: Tracking, bundle: Path, tmp_path: Path
) -> None:
    version = told(tracking, bundle).version or ""
    [model] = (tmp_path / "artifacts").rglob(MODEL)
    if spoil == "changed":
        model.write_bytes(model.read_bytes()[:-1])
    elif spoil == "missing":
        model.unlink()
    else:
        shutil.rmtree(tmp_path / "artifacts")

    with pytest.raises((UnusableModel, MLflowAway), match=r"version 1|does not answer"):
        fetch_bundle(tracking, version, tmp_path / "bundles")
    assert not list((tmp_path / "bundles").glob("*"))


def test_a_version_that_there_is_not_is_named(tracking: Tracking, bundle: Path, tmp_path: Path) -> None:
    told(tracking, bundle)

    for wanted in ("17", "champion"):
        with pytest.raises(UnusableModel, match=f"no version or alias '{wanted}'"):
            fetch_bundle(tracking, wanted, tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


@NOT_MINUTES
def test_a_run_waits_for_an_mlflow_that_is_away_and_goes_with_the_next(
    tracking: Tracking, bundle: Path, closed_port: int
) -> None:
    lost = told(away(tracking, closed_port), bundle)

    assert lost.version is None
    assert f"http://127.0.0.1:{closed_port} does not answer" in (lost.waits or "")
    assert len(pending.waiting(tracking.pending)) == 1

    later = a_record(bundle, began=NOON + timedelta(hours=1))
    assert tell(tracking, later, bundle).version == "2"  # the one that waited came first
    assert not pending.waiting(tracking.pending)
    assert not upload(tracking).uploaded


@NOT_MINUTES
@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@127.0.0.1:{}/mlflow", "postgresql://***@127.0.0.1:{}/***"),
        ("mysql+pymysql://me:secret@127.0.0.1:{}/mlflow", "mysql+pymysql://***@127.0.0.1:{}/***"),
        ("postgresql:///mlflow?host=127.0.0.1&port={}", "postgresql:///***?***"),
    ],
)
def test_a_database_that_is_away_is_not_tried_for_minutes(
    uri: str, shown: str, tracking: Tracking, bundle: Path, closed_port: int
) -> None:
    there = msgspec.structs.replace(tracking, uri=uri.format(closed_port))
    why = told(there, bundle).waits or ""

    assert f"{shown.format(closed_port)} does not answer" in why
    assert "refused" in why
    assert "secret" not in why


@NOT_MINUTES
def test_a_file_that_is_no_database_is_not_tried_for_minutes(tracking: Tracking, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("payments\n" * 1_000)
    why = told(msgspec.structs.replace(tracking, uri=f"sqlite:///{tmp_path}/mlflow.db"), bundle).waits

    assert "file is not a database" in (why or "")


def test_what_is_told_twice_is_there_once(tracking: Tracking, bundle: Path, tmp_path: Path) -> None:
    kept = pending.keep(tracking.pending, a_record(bundle), bundle)
    shutil.copytree(kept, tmp_path / "again")
    [first] = upload(tracking).uploaded.values()
    shutil.copytree(tmp_path / "again", kept)
    [second] = upload(tracking).uploaded.values()

    assert first == second
    assert len(client(tracking).search_model_versions(f"name = '{tracking.model}'")) == 1


def test_what_was_begun_by_somebody_who_died_is_finished(tracking: Tracking, bundle: Path) -> None:
    record = a_record(bundle)
    mlflow = client(tracking)
    experiment = mlflow.create_experiment(tracking.experiment, tracking.artifact_location)
    begun = mlflow.create_run(experiment, tags={"fraud.run": record.name})

    assert tell(tracking, record, bundle).run == begun.info.run_id
    assert mlflow.get_run(begun.info.run_id).info.status == "FINISHED"


def test_two_who_upload_at_once_tell_each_run_once(tracking: Tracking, bundle: Path) -> None:
    for _ in range(3):
        pending.keep(tracking.pending, a_record(bundle), bundle)
    with ThreadPoolExecutor(2) as both:
        outcomes = list(both.map(upload, [tracking, tracking]))

    assert sum(len(outcome.uploaded) for outcome in outcomes) == 3
    assert not any(outcome.waiting for outcome in outcomes)
    assert len(client(tracking).search_model_versions(f"name = '{tracking.model}'")) == 3


def test_a_record_that_is_none_holds_nobody_up(tracking: Tracking, bundle: Path) -> None:
    broken = pending.keep(tracking.pending, msgspec.structs.replace(a_record(bundle), name="0"), bundle)
    (broken / pending.RECORD).write_text("{")
    answer = told(tracking, bundle)

    assert answer.version == "1"
    assert pending.waiting(tracking.pending) == [broken]


def test_a_database_that_goes_in_between_takes_nothing_along(tracking: Tracking, bundle: Path, database: Path) -> None:
    for hour in range(3):
        pending.keep(tracking.pending, a_record(bundle, began=NOON + timedelta(hours=hour)), bundle)

    def goes(done: int, of: int) -> None:
        if (done, of) == (1, 3):
            rename("experiments", "gone")

    def rename(name: str, other: str) -> None:
        with sqlite3.connect(database) as taken:
            taken.execute(f"ALTER TABLE {name} RENAME TO {other}")

    outcome = upload(tracking, goes)
    rename("gone", "experiments")

    assert len(outcome.uploaded) == 1
    assert len(outcome.waiting) == 2
    assert all("no such table" in why for why in outcome.waiting.values())
    assert len(upload(tracking).uploaded) == 2


def test_what_can_not_be_put_down_leaves_nothing(tracking: Tracking, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        pending.keep(tracking.pending, a_record(bundle), tmp_path / "nowhere")
    assert not list(tracking.pending.iterdir())


def test_nobody_is_told_that_mlflow_is_used(tracking: Tracking, bundle: Path) -> None:
    from mlflow.telemetry.utils import is_telemetry_disabled  # noqa: PLC0415 - reads the environment

    told(tracking, bundle)
    assert is_telemetry_disabled()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"uri": "mlruns"}, r"FRAUD_MLFLOW_URI is '\*\*\*'; write sqlite:///FILE"),
        ({"uri": "file:///mlruns"}, "FRAUD_MLFLOW_URI"),
        ({"uri": "postgresql://db/mlflow"}, "FRAUD_MLFLOW_ARTIFACTS is missing"),
        ({"experiment": ""}, "FRAUD_MLFLOW_EXPERIMENT is ''"),
        ({"model": "a/b"}, "FRAUD_MLFLOW_MODEL is 'a/b'"),
    ],
)
def test_a_setting_that_can_not_be_meant_is_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSettings, match=said):
        msgspec.structs.replace(Tracking(), **given).__post_init__()


def test_a_password_is_not_shown() -> None:
    assert Tracking(uri="https://me:secret@mlflow.bank/there").shown == "https://***@mlflow.bank/***"


def test_the_same_data_have_the_same_version_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).write_text("id,amount\n1,2\n" if name != "c.csv" else "id,amount\n1,3\n")
    (tmp_path / "m.toml").write_text("x = 1")
    a, b, c = (Source.of(tmp_path / name, None).digest for name in ("a.csv", "b.csv", "c.csv"))

    assert a == b != c
    assert Source.of(tmp_path / "a.csv", tmp_path / "m.toml").digest != a


def test_the_codes_version_is_a_commit_or_the_packages() -> None:
    version = code_version().removesuffix("-dirty")
    assert len(version) == 40 or version == "0.1.0"


# The commands


def training(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


def test_a_training_goes_on_without_mlflow_and_is_uploaded_later(
    tracking: Tracking, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    past = tmp_path / "past"
    past.mkdir()
    for name, table in zip(("transactions", "labels"), a_past(), strict=True):
        table.write_parquet(past / f"{name}.parquet")
    monkeypatch.setenv("FRAUD_MLFLOW_PENDING", str(tracking.pending))
    monkeypatch.setenv("FRAUD_MLFLOW_EXPERIMENT", tracking.experiment)
    monkeypatch.setenv("FRAUD_MLFLOW_MODEL", tracking.model)
    monkeypatch.setenv("FRAUD_MLFLOW_URI", f"http://127.0.0.1:{closed_port}")

    assert training(monkeypatch, "run", past, "--out", tmp_path / "bundles", "--current-anyway", "--json", *QUICK) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err.count("does not answer") == 1
    assert "`training upload`" in err
    assert report["mlflow"]["version"] is None
    assert (tmp_path / "bundles" / "current").resolve().name == report["bundle"]
    assert training(monkeypatch, "upload") == 1
    assert "0 uploaded, 1 waiting" in capsys.readouterr().out

    monkeypatch.setenv("FRAUD_MLFLOW_URI", tracking.uri)
    assert training(monkeypatch, "upload", "--json") == 0
    [uploaded] = json.loads(capsys.readouterr().out)["uploaded"].values()
    assert uploaded["version"] == "1"
    assert training(monkeypatch, "upload") == 0
    assert "0 uploaded, 0 waiting" in capsys.readouterr().out
    assert fetch_bundle(tracking, "1", tmp_path / "fetched").name == report["bundle"]

    assert training(monkeypatch, "run", past, "--out", tmp_path / "bundles", *QUICK) == 0
    out, err = capsys.readouterr()
    assert f"version 2 of {tracking.model}, run " in out
    assert report["path"] in out  # the same bundle: MLflow has no part in its digest


def test_a_tracking_address_that_can_not_be_meant_has_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training(monkeypatch, "upload", "--mlflow-uri", tmp_path) == 2
    assert "write sqlite:///FILE" in capsys.readouterr().err
