"""What a bundle must pass before it judges, and by how much one that doesn't is off."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, repeat
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.catalogue import DIGEST
from schemas.bundle import MODEL, Thresholds
from schemas.deployment import Model, Serving, promoted, rolled_back
from schemas.errors import UnusableModel
from tests.fleet.models import a_bundle
from tests.unit.deployed import (
    altered,
    with_another_feature,
    with_manifest,
    with_margins_that_are_no_numbers,
    with_wrong_golden_rows,
)
from training.costs import Costs
from training.evaluate import Kept
from training.gate import Gate, in_words, not_sent_back
from training.gate_limits import Limits
from training.gates import QUALITY, quality, service, warm_up
from training.judging import Interval, Judged, Judgement, Opinion, judge

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits()
THRESHOLDS = Thresholds(review=0.5, decline=0.9)
ROWS = 6_000


def judgement(
    *, noise: float = 0.1, theirs: float | None = 0.1, scale: float = 1.0, frauds: int = 300, knew: str = ""
) -> Judgement:
    """Of scores that are the truth, more or less: the more `noise`, the worse."""
    is_fraud = np.arange(ROWS) < frauds
    kept = Kept(
        is_fraud=is_fraud,
        account=pl.Series([f"a{i % 900}" for i in range(ROWS)]),
        occurred_at=pl.Series([NOON + timedelta(minutes=i) for i in range(ROWS)]),
        amounts=np.full(ROWS, 5_000, np.int64),
        currency="EUR",
        days=4.0,
        segments={},
    )

    def opinion(name: str, noise: float, scale: float) -> Opinion:
        off = np.random.default_rng(1).random(ROWS) < noise
        scores = np.where(is_fraud ^ (off & (np.arange(ROWS) % 7 == 0)), 0.95, 0.0) * scale
        return Opinion(name=name, scores=scores, thresholds=THRESHOLDS, knew=knew == name)

    champion = None if theirs is None else opinion("champion", theirs, 1.0)
    return judge(kept, opinion("model", noise, scale), champion, costs=Costs(), seed=0)


def failing(gates: tuple[Gate, ...]) -> set[str]:
    return {gate.name for gate in gates if not gate.passed}


def test_a_model_that_is_as_good_as_the_champion_passes() -> None:
    gates = quality(judgement(), expected="champion", limits=LIMITS)

    assert [gate.name for gate in gates] == list(QUALITY)
    assert not failing(gates)


def with_figures(
    *, cost: tuple[float, float, float] | None = None, brier: tuple[float, float] | None = None
) -> Judgement:
    """A judgement that passes every gate but for what is said here.

    `cost`: the model's, the champion's, and the lower end of the difference's interval; `brier`: the model's, the champion's.
    """
    judged = judgement()
    assert judged.champion is not None
    model, champion, differences = {}, {}, {}
    if cost is not None:
        model["cost_per_1000"], champion["cost_per_1000"] = cost[:2]
        differences["cost_per_1000"] = Interval(low=cost[2], high=3 * abs(cost[2]))
    if brier is not None:
        model["brier"], champion["brier"] = brier

    def told(one: Judged, figures: dict[str, float]) -> Judged:
        return replace(one, evaluation=replace(one.evaluation, metrics=one.evaluation.metrics | figures))

    return replace(
        judged,
        model=told(judged.model, model),
        champion=told(judged.champion, champion),
        differences=judged.differences | differences,
    )


@pytest.mark.parametrize(
    ("cost", "refused"),
    [
        pytest.param((104.0, 100.0, 1.0), {"cost"}, id="dearer by 4 %, and surely dearer"),
        pytest.param((106.0, 100.0, -1.0), {"cost"}, id="dearer by 6 %, and perhaps not"),
        pytest.param((104.0, 100.0, -1.0), set(), id="dearer by 4 %, and perhaps not"),
        pytest.param((106.0, 100.0, 1.0), {"cost"}, id="dearer by 6 %, and surely"),
        pytest.param((105.0, 100.0, 0.0), set(), id="at both limits"),
    ],
)
def test_the_cost_has_two_limits_of_its_own(cost: tuple[float, float, float], refused: set[str]) -> None:
    assert failing(quality(with_figures(cost=cost), expected="champion", limits=LIMITS)) == refused


@pytest.mark.parametrize(
    ("brier", "refused"),
    [
        pytest.param((0.0112, 0.0100), {"calibration"}, id="1.12 times the champion's"),
        pytest.param((0.0109, 0.0100), set(), id="1.09 times the champion's"),
    ],
)
def test_scores_of_the_right_mean_may_still_be_badly_calibrated(brier: tuple[float, float], refused: set[str]) -> None:
    gates = quality(with_figures(brier=brier), expected="champion", limits=LIMITS)

    assert failing(gates) == refused
    times = float(gates[2].said.partition("the mean score is ")[2].split()[0])
    assert 1 / LIMITS.bias <= times <= LIMITS.bias


@pytest.mark.parametrize(
    ("times", "refused"), [(0.49, {"calibration"}), (0.51, set()), (1.99, set()), (2.01, {"calibration"})]
)
def test_scores_of_another_mean_are_badly_calibrated_whatever_their_brier_score(
    times: float, refused: set[str]
) -> None:
    judged = judgement()
    share = judged.model.evaluation.metrics["fraud_share"]
    other = replace(judged, model=replace(judged.model, mean_score=times * share))

    assert failing(quality(other, expected="champion", limits=LIMITS)) == refused


def test_a_worse_one_is_refused_with_its_figures() -> None:
    gates = quality(judgement(noise=0.3), expected="champion", limits=LIMITS)

    assert {"average-precision", "cost"} <= failing(gates)
    precision, cost, _ = gates
    assert isinstance(precision.figure, float)
    assert precision.figure < -0.01
    assert f"{precision.figure:+.4f}, the limit is -0.01" in in_words(gates)
    assert isinstance(cost.figure, float)
    assert cost.figure > 0.05


def test_it_is_the_intervals_lower_end_that_counts() -> None:
    judged = judgement(noise=0.3)
    low = judged.differences["average_precision"].low

    assert quality(judged, expected="champion", limits=Limits(precision_tolerance=-low))[0].passed
    assert not quality(judged, expected="champion", limits=Limits(precision_tolerance=-low - 1e-9))[0].passed


def test_a_model_whose_scores_are_no_probabilities_is_refused() -> None:
    gates = quality(judgement(scale=0.3), expected="champion", limits=LIMITS)

    assert "calibration" in failing(gates)
    assert "times the share of frauds" in in_words(gates)


def test_the_first_of_all_has_nobody_to_be_compared_with() -> None:
    gates = quality(judgement(theirs=None), expected=None, limits=LIMITS)

    assert not failing(gates)
    assert "no champion to compare with" in gates[0].said
    assert failing(quality(judgement(theirs=None, scale=0.3), expected=None, limits=LIMITS)) == {"calibration"}


def test_a_champion_that_cant_be_asked_lets_nobody_pass() -> None:
    gates = quality(judgement(theirs=None), expected="champion", limits=LIMITS)

    assert failing(gates) == set(QUALITY)
    assert "the champion, champion, can't be asked" in in_words(gates)


def test_few_frauds_say_nothing() -> None:
    gates = quality(judgement(frauds=49), expected="champion", limits=LIMITS)

    assert failing(gates) == set(QUALITY)
    assert "49 frauds among the rows, at least 50" in in_words(gates)


def test_a_champion_that_knew_the_rows_is_said() -> None:
    assert (
        "that some of the rows had a part in"
        in quality(judgement(knew="champion"), expected="c", limits=LIMITS)[0].said
    )


def test_no_gate_goes_by_rows_that_chose_the_candidates_thresholds() -> None:
    gates = quality(judgement(knew="model"), expected="champion", limits=LIMITS)

    assert failing(gates) == set(QUALITY)
    assert "had a part in its fit, its thresholds or its parameters" in in_words(gates)


# Whether it can be served.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_bundle(tmp_path_factory.mktemp("bundles")).resolve()


def a_worker(catalogue: str = DIGEST) -> Serving:
    return Serving(worker="fraud-scorer-0", catalogue=catalogue, deployment=1, champion="a" * 16, at=NOON)


def test_a_bundle_that_is_right_can_be_served(bundle: Path) -> None:
    gates = service(bundle, [a_worker()], LIMITS)

    assert [gate.name for gate in gates] == ["parity", "latency", "size", "catalogue"]
    assert not failing(gates)


@pytest.mark.parametrize(
    ("alter", "gate", "said"),
    [
        (with_wrong_golden_rows, "parity", "1 of 64 golden rows have other margins"),
        (with_margins_that_are_no_numbers, "parity", "64 of 64 margins of golden rows are no numbers"),
        (with_another_feature, "catalogue", "wants other features"),
        (with_manifest(catalogue="0" * 16), "catalogue", "made for catalogue 0000000000000000"),
        (lambda folder: (folder / MODEL).write_bytes(b"graph"), "parity", "ONNX Runtime can't run it"),
    ],
)
def test_one_that_is_not_is_named_by_its_gate(
    bundle: Path, tmp_path: Path, alter: Callable[[Path], object], gate: str, said: str
) -> None:
    gates = service(altered(bundle, tmp_path, alter), [], LIMITS)

    assert gate in failing(gates)
    assert said in in_words(gates)


def test_one_that_is_too_large_is_not_read(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / bundle.name
    shutil.copytree(bundle, folder)
    with (folder / MODEL).open("r+b") as model:
        model.truncate(300 * 1024 * 1024)
    [gate] = service(folder, [], LIMITS)

    assert not gate.passed
    assert gate.name == "size"
    assert "at most 268,435,456" in gate.said


def test_one_that_is_none_is_past_gates(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusableModel, match="no folder"):
        service(tmp_path / ("0" * 16), [], LIMITS)


def test_a_slow_graph_is_refused_by_its_median(bundle: Path) -> None:
    ticks = accumulate(repeat(0.03))
    gates = service(bundle, [], LIMITS, clock=lambda: next(ticks))

    assert failing(gates) == {"latency"}
    assert "30.00 ms for 256 vectors" in in_words(gates)


def test_workers_of_another_release_stand_in_the_way(bundle: Path) -> None:
    gates = service(bundle, [a_worker(), a_worker("e" * 16)], LIMITS)

    assert failing(gates) == {"catalogue"}
    assert "fraud-scorer-0 has eeeeeeeeeeeeeeee" in in_words(gates)


def test_whom_a_guard_has_sent_away_doesnt_come_back_by_itself() -> None:
    old, new = Model(bundle="a" * 16), Model(bundle="b" * 16)
    first = promoted(None, old, at=NOON, by="me", why="the first")
    second = promoted(first, new, at=NOON, by="me", why="better", probation_until=NOON)
    back = rolled_back(second, new.bundle, at=NOON, by="worker 0", why="three times the alerts")

    assert not_sent_back(new.bundle, None).passed
    assert not_sent_back(new.bundle, second).passed
    assert not_sent_back(old.bundle, back).passed
    gate = not_sent_back(new.bundle, back)
    assert not gate.passed
    assert "worker 0 sent it back on 2026-03-01 at 12:00: three times the alerts" in gate.said


def a_worker_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this folder, what tries a bundle does this instead."""
    (folder / "streaming").mkdir()
    (folder / "streaming" / "__init__.py").touch()
    (folder / "streaming" / "trying.py").write_text(does)
    monkeypatch.chdir(folder)


def test_a_bundle_that_ends_the_process_that_tries_it_is_past_forcing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_worker_that("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path, monkeypatch)
    with pytest.raises(UnusableModel, match=r"ended the process that tried it \(SIGSEGV\)"):
        warm_up(tmp_path)


def test_a_bundle_that_is_never_ready_is_past_forcing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_worker_that("import time; time.sleep(600)", tmp_path, monkeypatch)
    with pytest.raises(UnusableModel, match="was not ready within"):
        warm_up(tmp_path, within=0.5)


def test_a_bundle_that_this_release_can_not_warm_up_does_not_get_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_worker_that("raise AttributeError('no such column')", tmp_path, monkeypatch)
    gate = warm_up(tmp_path)
    assert not gate.passed
    assert gate.said == "AttributeError: no such column"
