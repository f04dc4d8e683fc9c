"""What a bundle must pass before it judges: at least as good as the champion, calibrated, exact, quick, small, of our catalogue.

Each gate has its figure and its limit, so that whoever is refused knows by how much.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from features.catalogue import DIGEST
from schemas.bundle import INPUT, MOST_BYTES, OUTPUT
from schemas.currencies import money
from schemas.deployment import Serving
from schemas.errors import UnusableModel
from training.contender import Contender
from training.export import session_of
from training.gate import Gate
from training.gate_limits import Limits
from training.judging import Judgement

Vectors = npt.NDArray[np.float32]
Margins = npt.NDArray[np.float64]

PRECISION, COST, CALIBRATION = "average-precision", "cost", "calibration"
QUALITY = (PRECISION, COST, CALIBRATION)
_BATCH = 256
_WARMING, _RUNS = 3, 20
TRIED_WITHIN = 120.0
_AT_A_TIME = (1, 7)
"""Golden rows are asked so many at a time, beside all at once: ONNX Runtime takes another path for one row than for many."""


# How good it is.


def unjudged(why: str) -> tuple[Gate, ...]:
    """The gates of the quality where nothing can be said of it."""
    return tuple(Gate(name=name, passed=False, said=why) for name in QUALITY)


def quality(judgement: Judgement, *, expected: str | None, limits: Limits) -> tuple[Gate, ...]:
    """By the rows that both were judged by; `expected`: the champion's bundle, None where nobody judges yet."""
    model, champion = judgement.model, judgement.champion
    if model.knew:
        return unjudged("the rows that would judge it had a part in its fit, its thresholds or its parameters")
    frauds = model.evaluation.review.caught + model.evaluation.review.missed
    if frauds < limits.least_frauds:
        return unjudged(
            f"{frauds} frauds among the rows, at least {limits.least_frauds} are wanted to say anything: "
            "a longer --validation, or a past with more frauds, would do"
        )
    if champion is None and expected is not None and judgement.elsewhere is None:
        return unjudged(f"the champion, {expected}, can't be asked about the same rows")
    return _precision(judgement, limits), _cost(judgement, limits), _calibration(judgement, limits)


def _precision(judgement: Judgement, limits: Limits) -> Gate:
    found = judgement.model.evaluation.metrics["average_precision"]
    if judgement.champion is None:
        return Gate(name=PRECISION, passed=True, figure=found, said=f"{found:.4f}, {_alone(judgement)}")
    low = judgement.differences["average_precision"].low
    theirs = judgement.champion.evaluation.metrics["average_precision"]
    return Gate(
        name=PRECISION,
        passed=low >= -limits.precision_tolerance,
        figure=low,
        limit=-limits.precision_tolerance,
        said=f"{found:.4f} against {theirs:.4f}{_flattered(judgement)}; the difference may be {low:+.4f}, "
        f"the limit is {-limits.precision_tolerance:+g}",
    )


def _cost(judgement: Judgement, limits: Limits) -> Gate:
    found = judgement.model.evaluation.metrics["cost_per_1000"]
    if judgement.champion is None:
        return Gate(name=COST, passed=True, figure=found, said=f"{_money(found, judgement)}, {_alone(judgement)}")
    theirs = judgement.champion.evaluation.metrics["cost_per_1000"]
    least = judgement.differences["cost_per_1000"].low
    share, surely = ((more / theirs if theirs else (np.inf if more > 0 else 0.0)) for more in (found - theirs, least))
    return Gate(
        name=COST,
        passed=share <= limits.cost_tolerance and surely <= 0,
        figure=share,
        limit=limits.cost_tolerance,
        said=f"{_money(found, judgement)} against {money(theirs, judgement.currency)}{_flattered(judgement)}: {share:+.1%}, "
        f"and at least {surely:+.1%}; the limits are {limits.cost_tolerance:+.1%} and 0",
    )


def _money(cost: float, judgement: Judgement) -> str:
    return f"{money(cost, judgement.currency)} per 1,000 transactions"


def _alone(judgement: Judgement) -> str:
    if judgement.elsewhere is None:
        return "with no champion to compare with"
    return f"not compared: the champion, {judgement.elsewhere}, learnt from other transactions than these"


def _flattered(judgement: Judgement) -> str:
    knew = judgement.champion is not None and judgement.champion.knew
    return " (of a champion that some of the rows had a part in)" if knew else ""


def _calibration(judgement: Judgement, limits: Limits) -> Gate:
    model, champion = judgement.model, judgement.champion
    share, brier = model.evaluation.metrics["fraud_share"], model.evaluation.metrics["brier"]
    times = model.mean_score / share
    theirs = np.inf if champion is None else champion.evaluation.metrics["brier"]
    within = 1 / limits.bias <= times <= limits.bias
    against = "" if champion is None else f" against {theirs:.5f}, at most {limits.brier:g} times that"
    return Gate(
        name=CALIBRATION,
        passed=bool(within and brier <= limits.brier * theirs),
        figure=brier,
        limit=None if champion is None else limits.brier * theirs,
        said=f"Brier score {brier:.5f}{against}; the mean score is {times:.2f} times the share of frauds, "
        f"{1 / limits.bias:g} to {limits.bias:g} are allowed",
    )


# Whether it can be served.


def service(
    folder: Path, workers: Sequence[Serving], limits: Limits, *, clock: Callable[[], float] = time.perf_counter
) -> tuple[Gate, ...]:
    """Of the bundle in this folder, for those who would serve it.

    Raises UnusableModel where it is none, or not whole: that is past forcing.
    """
    size = sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
    small = Gate(
        name="size", passed=size <= MOST_BYTES, figure=size, limit=MOST_BYTES,
        said=f"{size:,} bytes, at most {MOST_BYTES:,} are read",
    )  # fmt: skip
    if not small.passed:
        return (small,)
    contender = Contender.read(folder)
    exact = _parity(contender)
    return exact, _latency(contender, limits, clock), small, _catalogue(contender, workers)


def warm_up(folder: Path, *, within: float = TRIED_WITHIN) -> Gate:
    """Whether a worker of this release can load the bundle and judge by it: tried in a process of its own.

    Raises UnusableModel where it ended that process, or was not ready `within` so many seconds: that is past forcing.
    """
    command = [sys.executable, "-m", "streaming.trying", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnusableModel(
            f"bundle {folder.name} was not ready within {within:.0f} s, in a process of its own"
        ) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise UnusableModel(f"bundle {folder.name} ended the process that tried it ({name}): it would end every worker")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return Gate(
        name="warm-up",
        passed=done.returncode == 0,
        said="loaded, and a transaction judged by it, in a process of its own"
        if done.returncode == 0
        else (said[-1] if said else f"status {done.returncode}")[:1_000],
    )


def _parity(contender: Contender) -> Gate:
    vectors, expected = contender.golden
    try:
        session = _session(contender)
        answers = {len(vectors): _asked(session, vectors, len(vectors))}
        answers |= {rows: _asked(session, vectors, rows) for rows in _AT_A_TIME}
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        return Gate(name="parity", passed=False, said=f"ONNX Runtime can't run it: {str(error).splitlines()[0]}")
    senseless = int((~np.isfinite(answers[len(vectors)])).sum())
    different = max(int((found.view(np.int64) != expected.view(np.int64)).sum()) for found in answers.values())
    said = f"{different} of {len(expected)} golden rows have other margins"
    if senseless:
        said = f"{senseless} of {len(expected)} margins of golden rows are no numbers"
    return Gate(
        name="parity", passed=not (different or senseless), figure=max(different, senseless), limit=0, said=said
    )


def _latency(contender: Contender, limits: Limits, clock: Callable[[], float]) -> Gate:
    batch = np.resize(contender.golden[0], (_BATCH, contender.golden[0].shape[1]))
    try:
        session = _session(contender)
        took = []
        for _ in range(_WARMING + _RUNS):
            began = clock()
            _asked(session, batch, _BATCH)
            took.append(clock() - began)
    except Exception as error:  # as above
        return Gate(name="latency", passed=False, said=f"ONNX Runtime can't run it: {str(error).splitlines()[0]}")
    seconds = median(took[_WARMING:])
    return Gate(
        name="latency",
        passed=seconds <= limits.latency_budget,
        figure=seconds,
        limit=limits.latency_budget,
        said=f"{1e3 * seconds:.2f} ms for {_BATCH} vectors on one thread, the budget is {1e3 * limits.latency_budget:g}",
    )


def _catalogue(contender: Contender, workers: Sequence[Serving]) -> Gate:
    wanted = contender.manifest.catalogue
    others = [f"{worker.worker} has {worker.catalogue}" for worker in workers if worker.catalogue != wanted]
    try:
        contender.require_fitting()
        said = "; ".join(others) or f"{wanted}, here and at all workers ({len(workers)})"
    except UnusableModel as error:
        said = str(error)
        others.append(said)
    return Gate(name="catalogue", passed=not others, figure=wanted, limit=DIGEST, said=said)


def _session(contender: Contender) -> ort.InferenceSession:
    session = session_of(contender.graph)
    takes = [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()]
    gives = [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()]
    right = [(INPUT, "tensor(float)", [len(contender.manifest.features)])], [(OUTPUT, "tensor(double)", [1])]
    if (takes, gives) != right:
        raise UnusableModel(f"it takes {takes} and gives {gives}, not {right[0]}, {right[1]}")
    return session


def _asked(session: ort.InferenceSession, vectors: Vectors, rows: int) -> Margins:
    parts = [
        session.run([OUTPUT], {INPUT: vectors[start : start + rows]})[0][:, 0] for start in range(0, len(vectors), rows)
    ]
    return np.concatenate(parts)
