"""What holds when workers are killed, stopped and robbed of Redis under load: `make faults`.

    python -m benchmarks.faults [kills flushes stops redis-kills] --rate 2000

Two workers, a steady stream with malformed messages and duplicates in it; each scenario on a Kafka and a Redis of its own
ends with `loadgen check`: nothing lost, doubled or contradicting, every vector to the bit, every profile byte for byte.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import redis
import typer

from benchmarks.scene import FOLDER, bundle_of, fresh_stack, past_of, write
from deploy.local.children import Child
from deploy.local.stack import LocalStack
from features.settings import Settings
from loadgen.beside import Beside, read_answers, send_stream
from loadgen.check import check
from loadgen.mischief import Mischief
from loadgen.reader import Answers
from loadgen.rehearsal import launch_worker, say, wait_until_settled
from loadgen.stream import Progress, Sent, Stream
from loadgen.target import Target

RESPAWN_AFTER = 0.5
"""Seconds until a dead worker is started again, as a supervisor does."""
STOPPED_FOR = 8.0
"""Seconds: longer than the session, so that the partitions go to others."""


class Scene:
    """Two workers that are kept alive, and what can be done to them."""

    def __init__(self, stack: LocalStack, settings: Settings, bundle: Path, seed: int) -> None:
        self.stack, self.settings, self.bundle = stack, settings, bundle
        self.random = random.Random(seed)  # noqa: S311 - which worker dies is no secret
        self.workers: dict[int, Child] = {slot: self._launch(slot) for slot in (0, 1)}
        self.dead: dict[int, float] = {}
        self.stopped: dict[int, float] = {}

    def _launch(self, slot: int) -> Child:
        return launch_worker(self.stack, self.settings, FOLDER, self.bundle, slot=slot)[0]

    def tend(self) -> None:
        """Start again who is dead, and wake who was stopped long enough."""
        now = time.monotonic()
        for slot, worker in self.workers.items():
            if self.stopped.get(slot, now) < now - STOPPED_FOR:
                os.kill(worker.pid, signal.SIGCONT)
                del self.stopped[slot]
            if not worker.running and now - self.dead.setdefault(slot, now) > RESPAWN_AFTER:
                del self.dead[slot]
                self.workers[slot] = self._launch(slot)

    def kill(self) -> str:
        """kill -9 of one at random."""
        slot = self.random.choice(list(self.workers))
        if self.workers[slot].running:
            self.workers[slot].kill()
        return f"kill -9 of worker {slot}"

    def flush(self) -> str:
        """Redis forgets everything."""
        redis.Redis.from_url(self.settings.redis_url).flushall()
        return "FLUSHALL"

    def stop(self) -> str:
        """SIGSTOP of one for longer than its session; it wakes as a zombie."""
        slot = self.random.choice(list(self.workers))
        if self.workers[slot].running and slot not in self.stopped:
            os.kill(self.workers[slot].pid, signal.SIGSTOP)
            self.stopped[slot] = time.monotonic()
        return f"SIGSTOP of worker {slot} for {STOPPED_FOR:.0f} s"

    def kill_redis(self) -> str:
        """kill -9 of Redis, which comes back with its append-only file."""
        self.stack.kill_redis()
        time.sleep(1)
        self.stack.start_redis()
        return "kill -9 of Redis, 1 s away"


SCENARIOS: dict[str, tuple[Callable[[Scene], str], int, float]] = {
    "kills": (Scene.kill, 10, 4.0),
    "flushes": (Scene.flush, 3, 10.0),
    "stops": (Scene.stop, 3, 16.0),
    "redis-kills": (Scene.kill_redis, 4, 8.0),
}
"""What is done, how often, and seconds in between."""


def main(
    scenarios: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(SCENARIOS)}; all where none is named.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1)] = 2_000.0,
    seed: Annotated[int, typer.Option(min=0)] = 3,
) -> None:
    """Exit status 1 where anything was lost, doubled, contradicting or different."""
    bundle = bundle_of()
    rows = list(_run(scenarios or list(SCENARIOS), bundle, rate, seed))
    say(f"the report is {write('faults', {'rate': rate, 'scenarios': rows})}")
    raise typer.Exit(0 if all(row["well"] for row in rows) else 1)


def _run(names: list[str], bundle: Path, rate: float, seed: int) -> Iterator[dict[str, Any]]:
    for name in names:
        do, times, pause = SCENARIOS[name]
        past = past_of(round(rate * (times + 1) * pause))
        stream = Stream(
            past.transactions, past.labels, rate=rate, mischief=Mischief(malformed=0.002, duplicates=0.002, seed=seed)
        )
        with fresh_stack("faults") as (stack, settings):
            scene = Scene(stack, settings, bundle, seed)
            sent, answers = _under_load(scene, stream, do, times, pause)
            wait_until_settled(settings)
            found = check(settings)
        row = {
            "scenario": name,
            "times": times,
            "transactions": sent.transactions,
            "lost": found.lost + answers.awaited,
            "doubled": found.doubled,
            "contradicting": found.contradicting,
            "profiles_different": found.profiles_different,
            "profiles_compared": found.profiles_compared,
            "vectors_compared": found.vectors_compared,
            "longest_wait_ms": round(answers.total.max),
            "latency_ms": msgspec.to_builtins(answers.total),
            "examples": found.examples,
            "well": found.well and not answers.awaited,
        }
        say(
            f"{name} × {times}: {sent.transactions:,} transactions, lost {row['lost']}, doubled {found.doubled}, contradicting "
            f"{found.contradicting}, profiles different {found.profiles_different} of {found.profiles_compared:,}; longest wait "
            f"{answers.total.max / 1e3:.1f} s"
        )
        yield row


def _under_load(
    scene: Scene, stream: Stream, do: Callable[[Scene], str], times: int, pause: float
) -> tuple[Sent, Answers]:
    target = Target(url=scene.settings.kafka_url)
    sender: Beside[Progress, Sent | None] = Beside(send_stream, stream, target)
    reader: Beside[Answers, Answers] = Beside(read_answers, stream.schedule(), target, frozenset())
    sender.wait_ready()
    reader.wait_ready()
    start_at = time.time_ns() // 1_000 + 200_000
    sender.begin(start_at)
    reader.begin(start_at)
    begun, done, over = time.monotonic(), 0, 0.0
    while sender.running or reader.running:
        sender.latest()
        reader.latest()
        scene.tend()
        if done < times and time.monotonic() - begun > (done + 1) * pause:
            done += 1
            say(f"  {time.monotonic() - begun:5.1f} s  {do(scene)}")
        if not sender.running:
            over = over or time.monotonic()
            if time.monotonic() - over > 60:
                reader.stop()
        time.sleep(0.05)
    sent = sender.result()
    assert sent is not None
    return sent, reader.result()


if __name__ == "__main__":
    typer.run(main)
