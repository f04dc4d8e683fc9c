"""`training models`: what is on trial, until when, and which trials are over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features import deployments
from schemas.deployment import Deployment, Model, challenged, promoted, rolled_back, withdrawn
from tests.unit.deployed import FakeDeployments
from training import __main__ as command

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C = (Model(bundle=letter * 16) for letter in "abc")
Shown = Callable[[Deployment], list[str]]


def minutes(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    def show(deployment: Deployment) -> list[str]:
        topic = FakeDeployments()
        topic.now = deployment
        monkeypatch.setattr(deployments, "Deployments", lambda *_: topic)
        monkeypatch.setattr("sys.argv", ["training", "models", "--no-mlflow", "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as left:
            command.main()
        assert left.value.code == 0
        return capsys.readouterr().out.splitlines()

    return show


def test_a_challenger_is_on_trial_since_it_came_whatever_its_share(shown: Shown) -> None:
    now = promoted(None, A, at=NOON, by="me", why="the first")
    for share, at in ((0.0, 1), (0.1, 2)):
        now = challenged(now, B, share, at=minutes(at), by="me", why="to see")

    lines = shown(now)
    assert f"challenger  {B.bundle}, judges 10.0% of the accounts, on trial since 2026-03-01 12:01:00" in lines
    assert not [line for line in lines if "trial of" in line or line.startswith("probation")]


def test_trials_that_ended_say_by_what(shown: Shown) -> None:
    now = promoted(None, A, at=NOON, by="me", why="the first")
    now = challenged(now, B, 0.1, at=minutes(1), by="me", why="to see")
    now = withdrawn(now, at=minutes(2), by="me", why="enough")
    now = challenged(now, B, 0.2, at=minutes(3), by="me", why="more")
    now = rolled_back(now, B.bundle, at=minutes(4), by="worker 0", why="drift")
    now = challenged(now, C, 0.1, at=minutes(5), by="me", why="another")
    now = promoted(now, C, at=minutes(6), by="you", why="it is better")

    assert [line.strip() for line in shown(now) if "trial of" in line] == [
        f"trial of {B.bundle}, 2026-03-01 12:01:00 to 2026-03-01 12:02:00: withdrawn by me: enough",
        f"trial of {B.bundle}, 2026-03-01 12:03:00 to 2026-03-01 12:04:00: rolled-back by worker 0: drift",
        f"trial of {C.bundle}, 2026-03-01 12:05:00 to 2026-03-01 12:06:00: {C.bundle} promoted by you: it is better",
    ]


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (datetime(2999, 1, 1, tzinfo=UTC), "until 2999-01-01 00:00:00; the former one scores along"),
        (minutes(10), "over since 2026-03-01 12:10:00"),
    ],
)
def test_a_probation_says_until_when(until: datetime, said: str, shown: Shown) -> None:
    first = promoted(None, A, at=NOON, by="me", why="the first")
    now = promoted(first, B, at=minutes(1), by="me", why="better", probation_until=until)

    assert f"probation   of the champion, {said}" in shown(now)
