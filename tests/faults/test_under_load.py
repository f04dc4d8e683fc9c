"""2,000 transactions a second, two workers, and what goes wrong in the world: nothing is lost, doubled or contradicting.

Each fault is provoked again and again at random moments; then the checker computes everything once more from the log.  A
line for each goes to the screen and into `.local/faults/under-load.json`.  "Wait" is the longest time from sending a
transaction to a verdict that could be read, of those sent around one fault.
"""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.local.jars import PROJECT
from deploy.local.stack import LocalStack
from loadgen.check import Report, check
from tests.fleet.fleet import Fleet
from tests.fleet.keeping import Keeper
from tests.fleet.traffic import Traffic

REPORT = PROJECT / ".local" / "faults" / "under-load.json"
RATE = 2_000.0
RECOVERS_WITHIN = 120.0
"""Seconds; a broker takes ten to start on a busy machine, and a watchdog fifteen to bark."""
HEADER = (
    f"{'fault':<52}{'times':>6}{'transactions':>13}{'lost':>6}{'doubled':>8}{'contradicting':>14}"
    f"{'profiles different/compared':>29}{'wait s (min/median/max)':>25}"
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault."""

    fault: str
    times: int
    transactions: int
    lost: int
    doubled: int
    contradicting: int
    vectors_different: int
    profiles_different: int
    profiles_compared: int
    wait_min: float
    wait_median: float
    wait_max: float
    ended: dict[str, int]
    """Workers that ended, by exit status (-9: killed)."""

    def __str__(self) -> str:
        waits = f"{self.wait_min:.1f} / {self.wait_median:.1f} / {self.wait_max:.1f}"
        profiles = f"{self.profiles_different} / {self.profiles_compared:,}"
        return (
            f"{self.fault:<52}{self.times:>6}{self.transactions:>13,}{self.lost:>6}{self.doubled:>8}{self.contradicting:>14}"
            f"{profiles:>29}{waits:>25}"
        )


class Scene:
    """Two workers under load."""

    def __init__(self, fleet: Fleet, keeper: Keeper, traffic: Traffic, say: Callable[[str], None]) -> None:
        self.fleet, self.keeper, self.traffic, self.say = fleet, keeper, traffic, say
        self.stack = fleet.stack
        self.random = random.Random(7)
        self.faults: list[float] = []

    def anyone(self) -> int:
        """The slot of a worker, at random."""
        return self.random.choice(self.keeper.slots)

    def for_a_while(self, least: float, most: float) -> None:
        """Under load, for so many seconds: faults come at random moments."""
        time.sleep(self.random.uniform(least, most))

    def provoke(self, fault: Callable[[], object], times: int, *, at_most: float = 3.0) -> None:
        """Again and again, each when all from before the last one, and a second more, is told."""
        for _ in range(times):
            self.for_a_while(0.5, at_most)
            self.faults.append(time.monotonic())
            fault()
            self.wait_until_told(time.monotonic() + 1.0)

    def wait_until_told(self, moment: float) -> None:
        """Until what was sent before has its verdicts."""
        deadline = time.monotonic() + RECOVERS_WITHIN
        self.fleet.answers.wait_until(
            lambda _: self.traffic.answered_up_to(moment), seconds=RECOVERS_WITHIN, still=lambda: None
        )
        assert time.monotonic() < deadline

    def waits(self) -> list[float]:
        """Around each fault: from two seconds before it to the next one's."""
        ends = [*(fault - 2 for fault in self.faults[1:]), float("inf")]
        return [self.traffic.longest_wait(begin - 2, end) for begin, end in zip(self.faults, ends, strict=True)]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return []


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    stack: LocalStack,
    prefix: str,
    bundle: Path,
    lines: list[Line],
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Scene]:
    """Sets it up, lets the test provoke, and holds what came of it to the promise."""

    def say(what: str) -> None:
        with capsys.disabled():
            print(what, flush=True)

    with Fleet(stack, prefix, bundle, session_timeout=6, heartbeat=0.5) as fleet:
        traffic = Traffic(fleet, rate=RATE)
        with Keeper(fleet, 2) as keeper:
            for slot in keeper.slots:
                keeper.worker(slot).wait_until_ready()
            with traffic:
                scene = Scene(fleet, keeper, traffic, say)
                scene.wait_until_told(time.monotonic() + 2)
                yield scene
            scene.wait_until_told(float("inf"))
            fleet.wait_until_settled(RECOVERS_WITHIN)
            report = check(fleet.settings, bundles=bundle.parent)
            line = line_of(request.node.function.__doc__, scene, report)
            if not lines:
                say(f"\n{HEADER}")
            say(str(line))
            lines.append(line)
            write(line)
            assert report.well, report
            assert report.pending == 0
            assert report.vectors_different == 0
            assert report.verdicts == len(traffic.sent_at)
            assert report.vectors_compared == report.verdicts


def line_of(name: str, scene: Scene, report: Report) -> Line:
    waits = scene.waits()
    return Line(
        fault=name.splitlines()[0].rstrip("."),
        times=len(scene.faults),
        transactions=report.transactions,
        lost=report.lost,
        doubled=report.doubled,
        contradicting=report.contradicting,
        vectors_different=report.vectors_different,
        profiles_different=report.profiles_different,
        profiles_compared=report.profiles_compared,
        wait_min=round(min(waits), 2),
        wait_median=round(statistics.median(waits), 2),
        wait_max=round(max(waits), 2),
        ended={str(status): count for status, count in sorted(scene.keeper.ended.items())},
    )


def write(line: Line) -> None:
    """Into the report, in place of what an earlier run said of the same fault."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    before = msgspec.json.decode(REPORT.read_bytes(), type=list[Line]) if REPORT.exists() else []
    kept = [other for other in before if other.fault != line.fault]
    REPORT.write_bytes(msgspec.json.format(msgspec.json.encode([*kept, line])) + b"\n")


def test_kills(scene: Scene) -> None:
    """kill -9 of one of two, started again after 0.5 s."""
    scene.provoke(lambda: scene.keeper.worker(scene.anyone()).signal(signal.SIGKILL), 10)


def test_kills_of_both(scene: Scene) -> None:
    """kill -9 of both at once."""

    def kill() -> None:
        for slot in scene.keeper.slots:
            scene.keeper.worker(slot).signal(signal.SIGKILL)

    scene.provoke(kill, 4)


def test_a_worker_that_does_not_come_back(scene: Scene) -> None:
    """kill -9 of one that nobody starts again."""

    def lose() -> None:
        slot = scene.anyone()
        scene.keeper.lose(slot)
        scene.wait_until_told(time.monotonic() + 1)
        scene.keeper.keep(slot)

    scene.provoke(lose, 3)


def test_wiped(scene: Scene) -> None:
    """FLUSHALL."""
    scene.provoke(scene.fleet.redis.flushall, 5)


def test_wiped_and_killed(scene: Scene) -> None:
    """FLUSHALL and kill -9 at once."""

    def both() -> None:
        scene.fleet.redis.flushall()
        scene.keeper.worker(scene.anyone()).signal(signal.SIGKILL)

    scene.provoke(both, 3)


def test_positions_deleted(scene: Scene) -> None:
    """DEL of one position key."""
    scene.provoke(lambda: scene.fleet.redis.delete(scene.fleet.keys(scene.random.randrange(4)).position), 4)


def test_zombies(scene: Scene) -> None:
    """SIGSTOP for 9 s, longer than the session, then SIGCONT."""

    def stop() -> None:
        worker = scene.keeper.worker(scene.anyone())
        worker.pause()
        scene.for_a_while(9, 9.1)
        worker.resume()

    scene.provoke(stop, 4)


def test_short_stops(scene: Scene) -> None:
    """SIGSTOP for 1 to 5 s, shorter than the session."""

    def stop() -> None:
        worker = scene.keeper.worker(scene.anyone())
        worker.pause()
        scene.for_a_while(1, 5)
        worker.resume()

    scene.provoke(stop, 4)


def test_joins_and_leaves(scene: Scene) -> None:
    """A third worker joins, and leaves by SIGTERM."""

    def join_and_leave() -> None:
        worker = scene.keeper.keep(2)
        worker.log.wait_for("took partition")
        scene.for_a_while(1, 3)
        assert scene.keeper.let_go(2) == 0

    scene.provoke(join_and_leave, 4)


def test_redis_killed(scene: Scene) -> None:
    """kill -9 of Redis, 1 to 3 s away."""

    def kill() -> None:
        scene.stack.kill_redis()
        scene.for_a_while(1, 3)
        scene.stack.start_redis()

    scene.provoke(kill, 4)


def test_broker_killed(scene: Scene) -> None:
    """kill -9 of the broker, away until both workers say so, and 3 s."""

    def kill() -> None:
        scene.stack.kill_kafka()
        try:
            for slot in scene.keeper.slots:
                scene.keeper.wait_until(
                    slot, lambda said: said.get("status") == 503 and "Kafka" in str(said.get("waits_for"))
                )
            scene.for_a_while(3, 3.1)
        finally:
            scene.stack.start_kafka()

    scene.provoke(kill, 3, at_most=5.0)
    for slot in scene.keeper.slots:
        scene.keeper.wait_until(slot, lambda said: said.get("status") == 200)


def test_anything(scene: Scene) -> None:
    """Any of these at random, the next before all is well."""
    redis = scene.fleet.redis

    def pause() -> None:
        worker = scene.keeper.worker(scene.anyone())
        worker.pause()
        scene.for_a_while(1, 8)
        worker.resume()

    faults: list[Callable[[], object]] = [
        lambda: scene.keeper.worker(scene.anyone()).signal(signal.SIGKILL),
        lambda: scene.keeper.worker(scene.anyone()).signal(signal.SIGTERM),
        redis.flushall,
        lambda: redis.delete(scene.fleet.keys(scene.random.randrange(4)).position),
        pause,
    ]

    def some() -> None:
        for _ in range(4):
            scene.random.choice(faults)()
            scene.for_a_while(0.0, 1.5)

    scene.provoke(some, 4)
