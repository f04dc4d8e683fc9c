"""Two installations share nothing that nobody said they share: the topic prefix goes before whatever has a name."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from features.settings import Settings, explain, load
from schemas import installation
from streaming.settings import WorkerSettings
from training.archive_commands import DEFAULT, Where
from training.options import ExperimentOption, ModelOption, OutOption, PendingOption
from training.promote_commands import DEFAULTS, MLFLOW

NAMES = (
    installation.group, installation.model, installation.bundles, installation.bundle, installation.pending,
    installation.archive, installation.servers, installation.tuning,
)  # fmt: skip


def test_what_one_installation_has_no_other_has() -> None:
    prefixes = ("", "bank-", "bank", ".", "..", "stack", "bundles", "archive", "current")
    for name in NAMES:
        assert len({str(name(prefix)) for prefix in prefixes}) == len(prefixes)
    folders = [str(of(prefix)) for prefix in prefixes for of in (installation.bundles, installation.archive)]
    assert len({str(Path(folder).resolve()) for folder in folders}) == len(folders)
    assert all(Path(folder).resolve().parent == installation.LOCAL.resolve() for folder in folders)


def test_a_worker_begins_with_its_own_installations_model() -> None:
    theirs, ours = load(WorkerSettings, {}), load(WorkerSettings, {"FRAUD_TOPIC_PREFIX": "bank-"})

    assert (theirs.group, theirs.bundle, theirs.mlflow_model) == (
        "fraud-scorer", ".local/bundles/current", "fraud-scorer",
    )  # fmt: skip
    assert (ours.group, ours.bundle, ours.mlflow_model) == (
        "bank-fraud-scorer", ".local/bank-bundles/current", "bank-fraud-scorer",
    )  # fmt: skip
    assert ours.explainers == "bank-fraud-scorer-explainer"


def test_who_says_it_shares_on_purpose(tmp_path: Path) -> None:
    file = tmp_path / "fraud.toml"
    file.write_text('topic_prefix = "bank-"\ngroup = "ours"\n[worker]\nbundle = "somewhere/current"\n')

    found = load(WorkerSettings, {"FRAUD_SETTINGS": str(file), "FRAUD_MLFLOW_MODEL": "fraud-scorer"})

    assert (found.group, found.bundle, found.mlflow_model) == ("ours", "somewhere/current", "fraud-scorer")


def test_the_settings_show_what_became_of_a_default() -> None:
    lines = {line.name: line for line in explain(Settings, {"FRAUD_TOPIC_PREFIX": "bank-"})}

    assert lines["FRAUD_GROUP"][1:4] == ("bank-fraud-scorer", "fraud-scorer", "default")
    assert "topic prefix" in lines["FRAUD_GROUP"].meaning


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, ".local/bundles fraud-scorer fraud-scorer .local/mlflow/pending .local/archive"),
        (
            {"FRAUD_TOPIC_PREFIX": "bank-"},
            ".local/bank-bundles bank-fraud-scorer bank-fraud-scorer .local/mlflow/bank-pending .local/bank-archive",
        ),
        (
            {"FRAUD_TOPIC_PREFIX": "bank-", "FRAUD_TRAINING_OUT": ".local/bundles", "FRAUD_MLFLOW_MODEL": "a"},
            ".local/bundles a bank-fraud-scorer .local/mlflow/bank-pending .local/bank-archive",
        ),
    ],
)
def test_every_command_finds_the_installations_own(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def ask(
        out: OutOption = DEFAULTS.out,
        model: ModelOption = MLFLOW.model,
        experiment: ExperimentOption = MLFLOW.experiment,
        pending: PendingOption = MLFLOW.pending,
        to: Where = DEFAULT,
    ) -> None:
        print(out, model, experiment, pending, to)

    for name in ("FRAUD_TOPIC_PREFIX", "FRAUD_TRAINING_OUT", "FRAUD_MLFLOW_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert CliRunner().invoke(app, env=environment).output.split() == said.split()
