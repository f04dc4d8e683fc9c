"""What happens to workers under load, and what came of it: a line for each fault, on the screen and in a report."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from deploy.local.jars import PROJECT
from deploy.local.stack import LocalStack
from loadgen.check import Report, check
from tests.fleet.fleet import Fleet
from tests.fleet.keeping import Keeper
from tests.fleet.traffic import Traffic

REPORT = PROJECT / ".local" / "faults" / "report.json"
RATE = 2_000.0
RECOVERS_WITHIN = 120.0
"""Seconds; a broker takes ten to start on a busy machine, and a watchdog fifteen to bark."""
HEADER = (
    f"{'fault':<58}{'times':>6}{'transactions':>13}{'lost':>6}{'doubled':>8}{'contradicting':>14}{'state':>6}{'too little':>11}"
    f"{'degraded':>9}{'longest stop s':>15}{'a hand':>7}"
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault."""

    fault: str
    times: int
    transactions: int
    """That were to be judged, of those that are in the log."""
    lost: int
    doubled: int
    contradicting: int
    state_differences: int
    """Profiles that are others than the log gives."""
    judged_on_too_little: int
    """Verdicts without a part of their counterparty's past that don't say so."""
    longest_stop_s: float
    """From sending a transaction to a verdict that could be read, of those that got one."""
    needed_a_hand: bool
    """Somebody had to give a command before it went on."""
    degraded: int
    """Verdicts without their counterparty's past that say so."""
    gone: int
    """Verdicts and activity of records that are no longer in the log, as somebody has accepted."""
    vectors_compared: int
    vectors_different: int
    profiles_compared: int
    median_stop_s: float
    ended: dict[str, int]
    """Workers that ended, by exit status (-9: killed)."""

    def __str__(self) -> str:
        return (
            f"{self.fault:<58}{self.times:>6}{self.transactions:>13,}{self.lost:>6}{self.doubled:>8}{self.contradicting:>14}"
            f"{self.state_differences:>6}{self.judged_on_too_little:>11}{self.degraded:>9}{self.longest_stop_s:>15.1f}"
            f"{'yes' if self.needed_a_hand else 'no':>7}"
        )


class Scene:
    """Two workers under load."""

    def __init__(self, fleet: Fleet, keeper: Keeper, traffic: Traffic, say: Callable[[str], None]) -> None:
        self.fleet, self.keeper, self.traffic, self.say = fleet, keeper, traffic, say
        self.stack = fleet.stack
        self.random = random.Random(7)
        self.faults: list[float] = []
        self.needed_a_hand = False

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

    def by_hand(self, *command: str) -> None:
        """What whoever is on call does."""
        self.needed_a_hand = True
        status, said = self.fleet.run(*command)
        assert status == 0, said

    def waits(self) -> list[float]:
        """Around each fault: from two seconds before it to the next one's."""
        ends = [*(fault - 2 for fault in self.faults[1:]), float("inf")]
        return [self.traffic.longest_wait(begin - 2, end) for begin, end in zip(self.faults, ends, strict=True)]


@contextmanager
def a_scene(
    stack: LocalStack, prefix: str, bundle: Path, fault: str, capsys: pytest.CaptureFixture[str], *, loses: bool = False
) -> Iterator[Scene]:
    """Sets it up, lets the test provoke, and holds what came of it to the promise.

    `loses`: records that were sent are destroyed; those that are in the log are held to it.
    """

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
            if not loses:
                scene.wait_until_told(float("inf"))
            fleet.wait_until_settled(RECOVERS_WITHIN)
            report = check(fleet.settings, bundles=bundle.parent)
            line = line_of(fault, scene, report)
            say(f"\n{HEADER}\n{line}")
            write(line)
            assert report.well, report
            assert report.pending == 0
            assert report.vectors_different == 0
            if not loses:
                assert report.verdicts == len(traffic.sent_at)
                assert report.vectors_compared == report.verdicts


def line_of(fault: str, scene: Scene, report: Report) -> Line:
    waits = scene.waits()
    return Line(
        fault=fault,
        times=len(scene.faults),
        transactions=report.transactions,
        lost=report.lost,
        doubled=report.doubled,
        contradicting=report.contradicting,
        state_differences=report.profiles_different,
        judged_on_too_little=report.judged_on_too_little,
        longest_stop_s=round(max(waits), 2),
        needed_a_hand=scene.needed_a_hand,
        degraded=report.degraded,
        gone=report.gone,
        vectors_compared=report.vectors_compared,
        vectors_different=report.vectors_different,
        profiles_compared=report.profiles_compared,
        median_stop_s=round(statistics.median(waits), 2),
        ended={str(status): count for status, count in sorted(scene.keeper.ended.items())},
    )


def write(line: Line) -> None:
    """Into the report, in place of what an earlier run said of the same fault."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    before = msgspec.json.decode(REPORT.read_bytes(), type=list[Line]) if REPORT.exists() else []
    kept = [other for other in before if other.fault != line.fault]
    REPORT.write_bytes(msgspec.json.format(msgspec.json.encode([*kept, line])) + b"\n")


def name_of(request: pytest.FixtureRequest) -> str:
    """The fault, as the test's docstring has it."""
    return str(request.node.function.__doc__).splitlines()[0].rstrip(".")
