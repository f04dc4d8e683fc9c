"""Do models come and go unnoticed?  Swaps under load, a challenger that must go, a registry that is away, broken bundles.

python -m benchmarks.swaps --swaps 200
"""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.request import urlopen

import msgspec
import numpy as np
import psutil
import typer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.scene import FOLDER, LEAVES, TREES, bundle_of, fresh_stack, past_of, write
from benchmarks.spoiled import SPOILINGS, spoiled, variant
from deploy.local.stack import LocalStack
from features.deployments import Deployments
from features.log import Log
from features.settings import Settings
from loadgen.check import check
from loadgen.latency import Latency
from loadgen.rehearsal import Failed, launch_worker, run_live, say, wait_until_ready, wait_until_settled
from loadgen.stream import Stream
from loadgen.target import Target
from schemas.bundle import Thresholds
from schemas.deployment import Deployment, Kind, Model, challenged, promoted, rolled_back
from schemas.topics import VERDICTS
from schemas.verdict import Verdict, decode_verdict
from streaming.bundle import LoadedBundle

MODEL = "fraud-scorer"
NOWHERE = "http://127.0.0.1:9"
"""A registry that never answers: nothing here may need one."""
ROTATION = 5
"""Bundles that take turns: a worker keeps fewer loaded, so that each swap is one."""
EVERY = 1.0
"""Seconds between two swaps."""
SLOWER = 1.2
"""What p99.9 may be of an interleaved run without swaps."""
GROWTH = 1.05
"""What the worker's memory may be of what it was after the first twenty swaps."""
FIRST_SWAPS = 20
PATIENCE = 60.0


@dataclass
class Swapped:
    """What was seen while models came and went."""

    without: list[Latency] = field(default_factory=list)
    with_swaps: list[Latency] = field(default_factory=list)
    at: list[tuple[datetime, str]] = field(default_factory=list)
    """When which was promoted."""
    rss: list[int] = field(default_factory=list)
    """Of the worker after each."""


class Scene:
    """A stack, a worker that can't reach the registry, and what is deployed."""

    def __init__(self, stack: LocalStack, settings: Settings, bundles: Path) -> None:
        self.stack, self.settings, self.bundles = stack, settings, bundles
        self.deployments = Deployments(settings, MODEL)
        self.start()

    def start(self) -> None:
        """A worker that is ready."""
        other = {"FRAUD_MLFLOW_URI": NOWHERE, "FRAUD_GUARD_WINDOW": "30"}
        self.worker, self.port = launch_worker(self.stack, self.settings, FOLDER, self.bundles / "current", other=other)
        wait_until_ready(self.worker, self.port)

    def change(self, update: Callable[..., Deployment], **what: Any) -> Deployment:
        """Deploy as `update` makes it."""
        return self.deployments.change(
            lambda before: update(
                before, at=datetime.now(UTC), by="benchmarks.swaps", why="to see what happens", **what
            )
        )

    def promote(self, bundle: str) -> Deployment:
        """A champion, without probation."""
        return self.change(promoted, model=Model(bundle=bundle))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the worker's samples with these labels."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def refuses(self, bundle: str) -> bool:
        """The worker has said so of this bundle."""
        return self.metric("fraud_bundle_refused", bundle=bundle) == 1

    def has_taken_up(self, number: int) -> bool:
        """The worker serves what this change made."""
        return self.metric("fraud_deployment_number") == number

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE) -> float:
        """How many seconds it took.  Raises Failed."""
        began = time.monotonic()
        while not holds():
            if not self.worker.running:
                raise Failed(f"the worker ended with status {self.worker.status} before {what}")
            if time.monotonic() - began > seconds:
                raise Failed(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.05)
        return time.monotonic() - began

    def send(self, stream: Stream) -> Latency:
        """All of it, and the latencies of the verdicts."""
        sent, answers = run_live(stream, frozenset(), Target(url=self.stack.kafka_url), self.worker)
        if answers.awaited or sent.failed:
            raise Failed(f"{answers.awaited} verdicts did not come, {dict(sent.failed)}")
        return answers.total

    def verdicts(self) -> list[Verdict]:
        """All of them, by partition in the order of the log."""
        with Log(self.settings) as log:
            return [
                decode_verdict(record.value)
                for number in range(self.settings.partitions)
                for some in log.read(VERDICTS, number, *log.bounds(VERDICTS, number))
                for record in some
            ]


def main(
    swaps: Annotated[int, typer.Option(min=FIRST_SWAPS + 1)] = 200,
    rate: Annotated[float, typer.Option(min=100)] = 2_000.0,
    rounds: Annotated[int, typer.Option(min=1, help="Each has a part without swaps and one with.")] = 4,
) -> None:
    """Swap models under load, and hold what comes of it to what is promised."""
    models = models_of(ROTATION)
    shutil.rmtree(FOLDER / "swapped", ignore_errors=True)
    bundles = FOLDER / "swapped"
    shutil.copytree(models[0].parent, bundles, symlinks=True)
    part = round(rate * EVERY * swaps / rounds)
    past = past_of((2 * rounds + 1) * part + 40_000)
    began = 0

    def stream(count: int, at: float = rate) -> Stream:
        nonlocal began
        began += count
        return Stream(past.transactions[began - count : began], past.labels[:0], rate=at)

    with fresh_stack("swaps") as (stack, settings):
        scene = Scene(stack, settings, bundles)
        names = [model.name for model in models]
        say("warming up")
        scene.send(stream(part))
        seen = Swapped()
        for number in range(rounds):
            seen.without.append(scene.send(stream(part)))
            seen.with_swaps.append(_send_and_swap(scene, stream(part), names, swaps // rounds, seen))
            a, b = seen.without[-1], seen.with_swaps[-1]
            say(
                f"  round {number + 1}: p99.9 {a.p99_9:.1f} ms without swaps, {b.p99_9:.1f} with; p99 {a.p99:.1f}, {b.p99:.1f}"
            )
        taken_up = scene.metric("fraud_swaps_total") - 1
        waited, torn = _first_verdicts(scene, seen, bundles)
        rolled = _roll_back_by_itself(scene, names[0], bundles, stream)
        restarted = _restart(scene, stream)
        refused = _offer_broken_ones(scene, models[0], bundles)
        wait_until_settled(settings)
        found = check(settings, bundles=bundles)
    first, last = seen.rss[FIRST_SWAPS - 1], max(seen.rss[FIRST_SWAPS:])
    slower = statistics.median(x.p99_9 for x in seen.with_swaps) / statistics.median(x.p99_9 for x in seen.without)
    rows: dict[str, tuple[Any, bool]] = {
        "swaps": (len(seen.at), len(seen.at) >= swaps // rounds * rounds),
        "taken_up": (taken_up, taken_up == len(seen.at)),
        "lost": (found.lost + found.pending, not (found.lost or found.pending)),
        "doubled": (found.doubled, not found.doubled),
        "contradicting": (found.contradicting, not found.contradicting),
        "verdicts_with_parts_of_two_bundles": (torn, not torn),
        "p99_9_with_swaps_to_without": (round(slower, 3), slower <= SLOWER),
        "memory_after_to_after_twenty": (round(last / first, 3), last / first <= GROWTH),
        "slowest_first_verdict_seconds": (round(max(waited), 2), max(waited) <= 10),
        "median_first_verdict_seconds": (round(statistics.median(waited), 2), True),
        "rolled_back_within_seconds": (round(rolled[0], 1), rolled[0] <= 60),
        "rolled_back_because": (rolled[1], True),
        "started_without_registry_seconds": (round(restarted, 1), True),
        "broken_bundles_refused": (len(refused), len(refused) == len(SPOILINGS)),
    }
    for name, (value, well) in rows.items():
        say(f"  {name.replace('_', ' ')}: {value}{'' if well else '   NOT as promised'}")
    report = {name: value for name, (value, _) in rows.items()} | {
        "latency_ms": {"without": seen.without, "with": seen.with_swaps},
        "rss": seen.rss,
        "refused": refused,
        "verdicts": found.verdicts,
        "well": all(well for _, well in rows.values()),
    }
    say(f"the report is {write('swaps', msgspec.to_builtins(report))}")
    if not report["well"]:
        raise typer.Exit(1)


def models_of(count: int) -> list[Path]:
    """So many bundles that differ in more than their names, in one folder; made once."""
    first = bundle_of().resolve()
    found = [first]
    for fewer in range(1, count):
        other = bundle_of(TREES - 5 * fewer, LEAVES).resolve()
        target = first.parent / other.name
        if not target.exists():
            shutil.copytree(other, target)
        found.append(target)
    return found


def _send_and_swap(scene: Scene, stream: Stream, names: list[str], swaps: int, seen: Swapped) -> Latency:
    over = threading.Event()
    failed: list[BaseException] = []

    def swap() -> None:
        try:
            due = time.monotonic() + 1.0
            for _ in range(swaps):
                if over.wait(max(due - time.monotonic(), 0.0)):
                    return
                due += EVERY
                name = names[(len(seen.at) + 1) % len(names)]
                scene.promote(name)
                seen.at.append((datetime.now(UTC), name))
                seen.rss.append(psutil.Process(scene.worker.pid).memory_info().rss)
        except BaseException as error:  # said where the others are
            failed.append(error)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        return scene.send(stream)
    finally:
        swapping.join(EVERY * 4)
        over.set()
        swapping.join()
        if failed:
            raise failed[0]


def _first_verdicts(scene: Scene, seen: Swapped, bundles: Path) -> tuple[list[float], int]:
    """Seconds from each promotion to the first verdict by the bundle, and how many verdicts aren't one bundle's alone."""
    verdicts = scene.verdicts()
    by_bundle: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_bundle[verdict.bundle].append(verdict)
    torn = sum(not_by(LoadedBundle.load_any(bundles / name), some) for name, some in by_bundle.items())
    moments = {name: np.sort([v.decided_at.timestamp() for v in some]) for name, some in by_bundle.items()}
    waited = []
    for at, name in seen.at:  # each bundle's turn comes again after ROTATION swaps, and all were taken up
        # Decided a little before the change was acknowledged: at once.
        mine = moments.get(name, np.empty(0))
        after = mine[np.searchsorted(mine, at.timestamp() - EVERY / 2) :]
        if len(after):
            waited.append(max(float(after[0]) - at.timestamp(), 0.0))
    return waited, torn


def not_by(bundle: LoadedBundle, verdicts: list[Verdict]) -> int:
    """How many of these verdicts have another margin, score, outcome or policy than their bundle gives their vector."""
    raw = b"".join(b64decode(verdict.vector or "") for verdict in verdicts)
    vectors = np.frombuffer(raw, "<f4").reshape(len(verdicts), -1)
    margins = bundle.margins(vectors)
    score, thresholds = bundle.manifest.calibration.probability, bundle.manifest.thresholds
    policy = thresholds.digest()
    return sum(
        (v.margin, v.score, v.outcome, v.policy) != (margin, score(margin), thresholds.judge(score(margin)), policy)
        for v, margin in zip(verdicts, margins.tolist(), strict=True)
    )


def _roll_back_by_itself(
    scene: Scene, usual: str, bundles: Path, stream: Callable[[int, float], Stream]
) -> tuple[float, str]:
    """A challenger that flags three times as many, with a tenth of the accounts, at 500 a second: until it is gone."""
    scene.promote(usual)
    folder = bundles / usual
    scores = np.sort([verdict.score for verdict in scene.verdicts() if verdict.bundle == usual])[::-1]
    own = LoadedBundle.load_any(folder).manifest.thresholds
    alerts = max(int((scores >= own.review).sum()), 1)
    eager = variant(
        folder, bundles,
        thresholds=Thresholds(review=float(scores[min(3 * alerts, len(scores) - 1)]), decline=own.decline),
        trained={"made": "eager"},
    )  # fmt: skip
    number = scene.change(challenged, model=Model(bundle=eager), share=0.1).number
    began = time.monotonic()
    sending = threading.Thread(target=partial(scene.send, stream(30_000, 500.0)))
    sending.start()
    try:
        scene.wait_until("the challenger is rolled back", lambda: scene.metric("fraud_deployment_number") > number, 90)
        took = time.monotonic() - began
    finally:
        sending.join()
    after = scene.deployments.latest()
    assert after is not None
    change = after.changes[-1]
    if (
        change.kind is not Kind.ROLLED_BACK
        or change.bundle != eager
        or not scene.metric("fraud_sent_back_total", bundle=eager)
    ):
        raise Failed(f"the challenger was not rolled back by the guard, but {change}")
    return took, change.why


def _restart(scene: Scene, stream: Callable[[int, float], Stream]) -> float:
    """Seconds that a worker takes to begin again with what is on disk, no registry to be seen."""
    scene.worker.stop()
    began = time.monotonic()
    scene.start()
    took = time.monotonic() - began
    scene.send(stream(2_000, 500.0))
    return took


def _offer_broken_ones(scene: Scene, good: Path, bundles: Path) -> dict[str, str]:
    """What the worker says of each."""
    said: dict[str, str] = {}
    for spoiling in SPOILINGS:
        name = spoiled(good, bundles, spoiling)
        before = scene.deployments.latest()
        assert before is not None
        scene.promote(name)
        scene.wait_until(
            f"a bundle {spoiling.name} is refused",
            partial(scene.refuses, name),
        )
        (serving,) = scene.deployments.serving()
        why = {one.bundle: one.why for one in serving.refused}.get(name, "")
        if spoiling.says in why and serving.champion == before.champion.bundle:
            said[spoiling.name] = why
        say(f"  a bundle {spoiling.name}: {why}")
        number = scene.change(rolled_back, bundle=name).number
        scene.wait_until("it is gone", partial(scene.has_taken_up, number))
        shutil.rmtree(bundles / name, ignore_errors=True)
    return said


if __name__ == "__main__":
    typer.run(main)
