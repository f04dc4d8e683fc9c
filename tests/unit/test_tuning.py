"""A search finds what does better at earlier dates, goes on where it was stopped, and keeps what it found."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from schemas.errors import WrongSettings
from tests.unit.pasts import a_past
from training import __main__ as command
from training.learners.chosen import chosen_until, learner_of, parameters
from training.search import Search
from training.settings import LearnerName, TrainingSettings
from training.split import known_at, split
from training.tuning import SPACES, Found, Standing, by_chance, prepare, space_of, tune

DAY = timedelta(days=1)
PAST = a_past(days=60, per_day=50)
SETTINGS = TrainingSettings(trees=8, threads=1, patience=5, smallest_leaf=200)
DESCRIBED, FOLDS = prepare(*PAST, settings=SETTINGS, folds=3)
SEARCHED = SPACES[LearnerName.LIGHTGBM].keys() - {"lambda_l2", "feature_fraction"}
"""The past has few frauds."""


def searched(
    folder: Path,
    trials: int,
    *,
    settings: TrainingSettings = SETTINGS,
    data: str = "payments",
    budget: timedelta = DAY,
    **given: Any,
) -> Found:
    search = Search(trials=trials, budget=budget, folder=folder)
    return tune(DESCRIBED, FOLDS, settings=settings, search=search, data=data, **given)


def study(folder: Path, found: Found) -> optuna.Study:
    return optuna.load_study(study_name=found.study, storage=f"sqlite:///{folder}/studies.db")


def tried(folder: Path, found: Found) -> list[tuple[dict[str, Any], float | None]]:
    there = study(folder, found).get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [(trial.params, trial.value) for trial in there]


def interrupt(when: Callable[[Standing], bool]) -> Callable[[Standing], None]:
    def press(standing: Standing) -> None:
        if when(standing):
            raise KeyboardInterrupt

    return press


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For studies that have nothing to do with each other: SQLite's file takes a second to make."""
    return tmp_path_factory.mktemp("others")


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return searched(folder, 14)


def test_it_finds_what_does_better(found: Found) -> None:
    assert found.ended == "trials"
    assert found.trials == 14
    assert found.best > found.as_it_was + 0.02  # leaves of 200 rows are far too large here
    assert found.best == pytest.approx(np.mean(found.of_folds))
    assert found.best - found.as_it_was > found.margin > 0
    assert found.parameters.keys() == SEARCHED
    assert found.dates == tuple(fold.at for fold in FOLDS)


def test_no_two_trials_are_the_same(found: Found, folder: Path) -> None:
    assert len({str(of) for of, _ in tried(folder, found)}) == found.trials


def test_what_it_found_is_what_a_training_takes(found: Found, folder: Path) -> None:
    assert parameters(folder / "lightgbm.toml", []) == {"lightgbm": found.parameters}
    assert chosen_until(folder / "lightgbm.toml") == DESCRIBED.past.until


def test_a_trial_that_is_behind_is_given_up(found: Found, folder: Path) -> None:
    given_up = [trial for trial in study(folder, found).trials if trial.state == TrialState.PRUNED]

    assert found.given_up == len(given_up) > 0
    assert all(len(trial.intermediate_values) < len(FOLDS) for trial in given_up)


def test_a_search_that_was_stopped_goes_on_as_if_it_was_not(found: Found, folder: Path, tmp_path: Path) -> None:
    steps = count()
    first = searched(tmp_path, 14, on_standing=interrupt(lambda at: at.done == 6 and next(steps) == 5))
    assert first.ended == "interrupted"
    assert first.trials == 6
    assert parameters(tmp_path / "lightgbm.toml", []) == {"lightgbm": first.parameters}

    second = searched(tmp_path, 14)
    assert tried(tmp_path, second) == tried(folder, found)
    assert second == found


def test_what_a_killed_search_left_half_way_is_closed(others: Path) -> None:
    before = searched(others, 1, data="killed")
    study(others, before).ask()
    after = searched(others, 2, data="killed")

    states = [trial.state for trial in study(others, after).trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]


def test_it_ends_with_its_budget(others: Path) -> None:
    ticks = count()
    ended = searched(others, 1_000, data="budget", budget=timedelta(seconds=200), clock=lambda: float(next(ticks)))

    assert ended.ended == "budget"
    assert 0 < ended.trials < 20


def test_a_budget_that_is_too_short_for_anything_says_so(tmp_path: Path) -> None:
    ticks = count()
    with pytest.raises(WrongSettings, match="ended before lightgbm was judged once; a longer --budget"):
        searched(tmp_path, 9, budget=timedelta(seconds=5), clock=lambda: float(next(ticks)))
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, 9, on_standing=interrupt(lambda _: True))
    assert not (tmp_path / "lightgbm.toml").exists()


def test_where_nothing_is_better_it_stays_as_it_was(others: Path) -> None:
    given = {"lightgbm": {"max_bin": 31}}
    settings = TrainingSettings(trees=8, threads=1, learners=given)
    tuned = searched(others, 1, settings=settings)
    assert tuned.parameters == given["lightgbm"]  # one trial's gain is within its margin

    study(others, tuned).set_user_attr("as it was", [0.99, 0.99, 0.99])
    as_it_was = searched(others, 1, settings=settings)
    assert as_it_was.best == as_it_was.as_it_was == pytest.approx(0.99)
    assert as_it_was.parameters == given["lightgbm"]


def test_what_is_ahead_by_no_more_than_chance_changes_nothing(found: Found, folder: Path, others: Path) -> None:
    noise = searched(others, 4, data="noise")
    complete = [trial.user_attrs["average precision"] for trial in study(others, noise).trials if trial.value]
    best = max(complete, key=sum)
    # As if the best were ahead of what it was by a quarter of the margin.
    before = (np.array(best) - by_chance(best, complete, trials=4) / 4).tolist()
    study(others, noise).set_user_attr("as it was", before)
    again = searched(others, 4, data="noise")

    assert again.best > again.as_it_was
    assert again.best - again.as_it_was < again.margin
    assert again.parameters == {}
    assert "may be so far ahead by chance" in (others / "lightgbm.toml").read_text()
    assert "these dates chose it" in (folder / "lightgbm.toml").read_text()


def test_the_best_of_many_equal_trials_is_seldom_ahead_by_more_than_the_margin() -> None:
    random = np.random.default_rng(0)
    taken = 0
    for _ in range(400):
        trials = 0.5 + 0.03 * random.normal(size=(20, 3))
        before = 0.5 + 0.03 * random.normal(size=3)
        ahead = trials.mean(axis=1).max() - before.mean()
        taken += ahead > by_chance(before.tolist(), trials.tolist(), trials=20)
    assert taken < 0.1 * 400


def test_where_frauds_are_few_their_limits_stay_the_learners() -> None:
    many = [replace(fold, known=np.ones(len(fold.known), bool), fit=np.ones(len(fold.fit), bool)) for fold in FOLDS]

    assert space_of(LearnerName.LIGHTGBM, FOLDS).keys() == SEARCHED
    assert space_of(LearnerName.LIGHTGBM, many) == SPACES[LearnerName.LIGHTGBM]
    assert space_of(LearnerName.XGBOOST, FOLDS) == SPACES[LearnerName.XGBOOST]


def pressed_once(when: Callable[[Standing], bool]) -> Callable[[Standing], None]:
    """Ctrl-C inside a fit, in a place that swallows it, as callbacks of compiled code do."""
    steps = count()

    def press(standing: Standing) -> None:
        if when(standing) and next(steps) == 0:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    return press


def test_ctrl_c_is_heard_at_the_next_step_where_it_was_swallowed(others: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    stopped = searched(
        others, 4, data="swallowed", on_standing=pressed_once(lambda at: at.done == 1 and at.folds_done == 1)
    )

    assert (stopped.ended, stopped.trials) == ("interrupted", 1)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_a_trial_is_written_down_waits_until_it_is(others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be told as failed any more: it is complete."""
    tell = optuna.Study.tell

    def told_and_pressed(of: optuna.Study, *given: Any, **more: Any) -> Any:
        told = tell(of, *given, **more)
        signal.raise_signal(signal.SIGINT)
        return told

    monkeypatch.setattr(optuna.Study, "tell", told_and_pressed)
    stopped = searched(others, 6, data="written")
    assert (stopped.ended, stopped.trials) == ("interrupted", 1)
    assert [trial.state for trial in study(others, stopped).trials] == [TrialState.COMPLETE]


def test_another_past_or_setting_is_another_study(found: Found, folder: Path, others: Path) -> None:
    assert searched(folder, 14).study == found.study
    names = {found.study, searched(others, 1, data="others").study}
    names.add(searched(others, 1, settings=TrainingSettings(trees=7, threads=1)).study)
    assert len(names) == 3


def test_two_searches_of_one_study_are_refused(found: Found, folder: Path) -> None:
    with (folder / f".{found.study}.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        with pytest.raises(WrongSettings, match="another `training tune` is at"):
            searched(folder, 20)


def test_a_search_knows_nothing_of_the_rows_that_a_training_is_judged_by() -> None:
    whole = known_at(None, *PAST)
    kept = split(whole, np.ones(whole.transactions.height, bool), delay=SETTINGS.label_delay)

    assert DESCRIBED.past.until == kept.validation_from
    assert FOLDS[-1].until == kept.validation_from - SETTINGS.label_delay
    assert DESCRIBED.past.labels["known_at"].max() <= kept.validation_from  # type: ignore[operator]


@pytest.mark.parametrize("learner", LearnerName)
@pytest.mark.parametrize("end", ["low", "high"])
def test_what_is_searched_is_what_a_learner_takes(learner: LearnerName, end: str) -> None:
    space = SPACES[learner]
    given = {name: int(getattr(of, end)) if of.whole else float(getattr(of, end)) for name, of in space.items()}

    learner_of(TrainingSettings(learner=(learner,), learners={learner: given}))


@pytest.mark.parametrize(
    ("given", "said"), [({"folds": 1}, "folds"), ({"trials": 0}, "trials"), ({"budget": 0 * DAY}, "budget")]
)
def test_a_setting_that_can_not_be_meant_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongSettings, match=f"^{said} must be"):
        Search(**given)


def test_an_ensemble_is_tuned_one_by_one(tmp_path: Path) -> None:
    both = TrainingSettings(learner=(LearnerName.LIGHTGBM, LearnerName.XGBOOST))
    with pytest.raises(WrongSettings, match="one by one"):
        searched(tmp_path, 1, settings=both)


# The command


def training(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


def test_the_command_finds_what_the_next_training_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    past, out = tmp_path / "past", tmp_path / "tuning"
    past.mkdir()
    for name, table in zip(("transactions", "labels"), PAST, strict=True):
        table.write_parquet(past / f"{name}.parquet")

    assert training(monkeypatch, "tune", past, "--trials", "2", "--out", out, "--threads", "1", "--json") == 0
    said, told = capsys.readouterr()
    report = json.loads(said)
    assert report["trials"] == 2
    assert json.loads((out / "report.json").read_text()) == report
    assert "2 of 2 trials; best" in told

    assert training(monkeypatch, "tune", past, "--trials", "2", "--out", out, "--threads", "1") == 0
    assert f"--learner lightgbm --learners {out}/lightgbm.toml" in capsys.readouterr().out

    learners = ("--learners", out / "lightgbm.toml", "--no-mlflow", "--threads", "1")
    assert training(monkeypatch, "run", past, "--out", tmp_path / "bundles", *learners, "--json") == 0
    learner = json.loads(capsys.readouterr().out)["learner"]
    assert report["parameters"].items() <= learner.items()


@pytest.mark.timeout(300)
def test_ctrl_c_ends_the_command_with_what_was_found(tmp_path: Path) -> None:
    past, out = tmp_path / "past", tmp_path / "tuning"
    past.mkdir()
    for name, table in zip(("transactions", "labels"), PAST, strict=True):
        table.write_parquet(past / f"{name}.parquet")
    arguments = ("tune", str(past), "--budget", "1h", "--out", str(out), "--threads", "1")
    with subprocess.Popen(
        (sys.executable, "-m", "training", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        heard = []
        for line in command.stderr:
            heard.append(line)
            if line.startswith("2 of 100 trials"):
                command.send_signal(signal.SIGINT)
        said = command.stdout.read()

    assert command.returncode == 130, heard
    assert "Traceback" not in "".join(heard)
    assert "ended by interrupted" in said
    assert json.loads((out / "report.json").read_bytes())["ended"] == "interrupted"
    assert "lightgbm" in parameters(out / "lightgbm.toml", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "soon"), "7d or 36h"),
        (("--trials", "0"), "trials must be"),
        (("--learner", "oracle"), "learner must be of lightgbm"),
        (("--learner", "lightgbm,xgboost"), "tuned one by one"),
        (("--folds", "15"), "fewer --folds"),
        (("--label-delay", "40d"), "nothing is mature enough"),
    ],
)
def test_wrong_use_has_status_2(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, table in zip(("transactions", "labels"), PAST, strict=True):
        table.write_parquet(tmp_path / f"{name}.parquet")

    assert training(monkeypatch, "tune", tmp_path, "--out", tmp_path / "tuning", *arguments) == 2
    out, err = capsys.readouterr()
    assert said in " ".join(err.split())
    assert out == ""
