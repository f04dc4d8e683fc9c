"""What is promoted reaches a running worker and its verdicts; what it said of a payment can be computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from deploy.local.stack import LocalStack
from features.deployments import Deployments
from schemas import installation
from schemas.bundle import make_current
from schemas.deployment import Kind
from schemas.topics import VERDICTS
from schemas.verdict import Flag, Verdict
from schemas.wire import encode
from tests.fleet.fleet import Fleet
from tests.fleet.messages import a_transaction, message
from tests.fleet.models import LARGE
from tests.unit.deployed import altered, with_manifest
from training import __main__ as command


@pytest.fixture
def bundles(bundle: Path, tmp_path: Path) -> Path:
    """Two of them, which differ in their thresholds; one is current."""
    out = tmp_path / "bundles"
    first = Path(shutil.copytree(bundle.resolve(), out / bundle.resolve().name))
    make_current(first)
    altered(first, out, with_manifest(thresholds={"review": 0.4, "decline": 0.9}))
    return out


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, bundles: Path) -> Callable[..., int | str | None]:
    """A command, with the settings of a fleet."""

    def run(fleet: Fleet, *arguments: str) -> int | str | None:
        for name, value in fleet.environment().items():
            if name.startswith("FRAUD_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("FRAUD_MLFLOW", "false")
        monkeypatch.setenv("FRAUD_TRAINING_OUT", str(bundles))
        monkeypatch.setattr("sys.argv", ["training", *arguments])
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code

    return run


def verdict_on(fleet: Fleet, transaction_id: str, amount: int = 1_250) -> Verdict:
    fleet.send([message(a_transaction(transaction_id, amount=amount))])
    fleet.wait_for(lambda answers: bool(answers.verdicts_of(transaction_id)))
    return fleet.answers.verdicts_of(transaction_id)[0]


def test_from_a_promotion_to_its_rollback(
    stack: LocalStack, prefix: str, bundles: Path, training: Callable[..., int | str | None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    old = (bundles / "current").resolve().name
    [new] = {folder.name for folder in bundles.iterdir()} - {old, "current"}
    with Fleet(stack, prefix, bundles / "current") as fleet:
        fleet.start()
        assert verdict_on(fleet, "before").bundle == old
        assert training(fleet, "rollback") == 1
        assert "nothing was ever deployed" in capsys.readouterr().err

        assert training(fleet, "promote", new, "--force", "a test", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["champion"], said["deployment"]) == (new, 1)
        assert said["workers"] == [{"worker": f"{fleet.settings.group}-0", "serves": True, "why": None}]
        during = verdict_on(fleet, "during")
        assert during.bundle == new
        assert during.shadow is not None  # the former champion, on probation

        assert training(fleet, "models", "--json") == 0
        models = json.loads(capsys.readouterr().out)
        assert models["deployment"]["champion"]["bundle"] == models["serving"][0]["champion"] == new

        assert training(fleet, "rollback", "--why", "it was but a test") == 0
        assert f"{old} judges" in capsys.readouterr().out
        assert verdict_on(fleet, "after").bundle == old
        deployment = Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix)).latest()
        assert deployment is not None
        assert [change.kind for change in deployment.changes] == [Kind.PROMOTED, Kind.ROLLED_BACK]
        assert deployment.changes[-1].why == "it was but a test"
        fleet.check(verdicts=3)

        # Who declined it?  The bundle that was there then, though it judges no more.
        assert training(fleet, "rescore", "during", "--account", during.account_id, "--json") == 0
        again = json.loads(capsys.readouterr().out)
        assert again["bundle"] == new
        assert again["same"]
        assert again["margin_again"] == during.margin
        assert again["shadow"]["bundle"] == old


def test_verdicts_are_computed_again_and_what_was_changed_is_found_out(
    stack: LocalStack, prefix: str, bundles: Path, training: Callable[..., int | str | None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    old = (bundles / "current").resolve().name
    [new] = {folder.name for folder in bundles.iterdir()} - {old, "current"}
    with Fleet(stack, prefix, bundles / "current", vectors=False, reasons_share=0) as fleet:
        fleet.start()
        assert training(fleet, "promote", old, "--force", "somebody has to begin") == 0
        assert training(fleet, "challenge", new, "--share", "1") == 0
        capsys.readouterr()
        verdict = verdict_on(fleet, "small")
        assert (verdict.bundle, verdict.flags) == (new, (Flag.CANARY,))
        flagged = verdict_on(fleet, "large", amount=3 * LARGE)
        fleet.wait_for(lambda answers: bool(answers.alerts))

        assert training(fleet, "rescore", "small") == 1
        assert "FRAUD_VECTORS was false" in capsys.readouterr().err
        assert training(fleet, "rescore", "nobody") == 1
        assert "there is no verdict on transaction 'nobody'" in capsys.readouterr().err

        assert training(fleet, "rescore", "large") == 0  # its reasons are pending, so that the alert has the vector
        shown = capsys.readouterr().out
        assert "as the challenger: the account is one of its share" in shown
        assert f"beside it   {old} said" in shown
        assert "the same, bit for bit" in shown

        vector = fleet.answers.alerts[0].verdict.vector
        other = msgspec.structs.replace(flagged, transaction_id="other", score=flagged.score / 2, vector=vector)
        fleet.producer.produce(fleet.settings.topic(VERDICTS), encode(other), other.account_id.encode())
        assert fleet.producer.flush(10) == 0
        assert training(fleet, "rescore", "other", "--account", other.account_id) == 1
        assert "NOT the same" in capsys.readouterr().out
