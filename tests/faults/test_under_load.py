"""2,000 transactions a second, two workers, and what goes wrong in the world: nothing is lost, doubled or contradicting.

Each fault is provoked again and again at random moments; then the checker computes everything once more from the log.  A
line for each goes to the screen and into `.local/faults/report.json`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.fleet.scenes import Scene, a_scene, name_of


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, stack: LocalStack, prefix: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Scene]:
    """Two workers under load, and what came of what the test provokes."""
    with a_scene(stack, prefix, bundle, name_of(request), capsys) as scene:
        yield scene


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


def test_wiped_and_one_worker_slow(scene: Scene) -> None:
    """FLUSHALL, both workers killed, and one of them slow for 4 s."""

    def wipe() -> None:
        scene.fleet.redis.flushall()
        for slot in scene.keeper.slots:
            scene.keeper.worker(slot).signal(signal.SIGKILL)
        scene.keeper.wait_until(0, bool)  # it answers: it has begun
        slow = scene.keeper.worker(1)
        slow.pause()
        scene.for_a_while(4, 4.1)
        slow.resume()

    scene.provoke(wipe, 3)


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
