"""A stack, a worker and a stream that meet: what the demo, the benchmarks and the trial on published data have in common."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import redis
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from deploy.local.children import Child, tail
from deploy.local.ports import free_ports
from deploy.local.stack import LocalStack
from features.log import Log
from features.position import Keys, Position
from features.settings import Settings
from loadgen.beside import Beside, read_answers, send_stream
from loadgen.check import awaited
from loadgen.reader import Answers
from loadgen.stream import Progress, Sent, Stream
from loadgen.target import Target
from schemas.topics import INPUTS

READY_WITHIN = 600.0
"""Seconds for a worker to be ready: the most of it is the kernel's compilation, which a busy machine takes minutes for."""
STILL_FOR = 120.0
"""Seconds after which what was moving is taken to have stopped.  However slow a machine is, something moves."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


PATIENT = {
    "FRAUD_SESSION_TIMEOUT": "60",
    "FRAUD_TRANSACTION_TIMEOUT": "60",
    "FRAUD_WATCHDOG": "120",
    "FRAUD_REDIS_TIMEOUT": "30",
    "FRAUD_GUARD_SECONDS": "10",
}
"""Of a worker that nobody kills: a machine that is busy with other things is no reason to leave."""


class Failed(Exception):
    """A part of the demo did not do its work; the message says which, and what it said last."""


def wait_while_it_moves(
    done: Callable[[], bool],
    moved: Callable[[], object],
    what: str,
    *,
    still_for: float = STILL_FOR,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Until it is `done`, for as long as what `moved` says changes.  Raises Failed where that stands still."""
    last, since = moved(), clock()
    while not done():
        now = moved()
        if now != last:
            last, since = now, clock()
        elif clock() - since > still_for:
            raise Failed(f"{what}: nothing has moved for {still_for:.0f} s, it stands at {last}")
        sleep(0.2)


def say(text: str) -> None:
    out.print(text, markup=False)


@dataclass
class Steps:
    """What is being done, for the screen."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        say(f"• {name} …")
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        say(f"  {name}: {self.seconds[name]:.0f} s")


def run_command(stack: LocalStack, folder: Path, *arguments: str, name: str | None = None, **environment: str) -> Child:
    """One of the project's own commands, as a user would give it."""
    name = name or arguments[0] + environment.get("FRAUD_SLOT", "")
    log = folder / f"{name}.log"
    log.unlink(missing_ok=True)
    return stack.children.start(
        name,
        [sys.executable, "-m", *arguments],
        folder=Path.cwd(),
        log=log,
        environment=dict(os.environ) | environment,
    )


@contextmanager
def following(log: Path) -> Iterator[None]:
    """What is written to a log meanwhile goes to the screen as well: whoever waits sees that something is being done."""
    over = threading.Event()

    def follow() -> None:
        at = 0
        while True:
            last = over.wait(0.2)
            if log.exists():
                with log.open(encoding="utf-8", errors="replace") as file:
                    file.seek(at)
                    for line in file.read().splitlines():
                        say(f"  {line}")
                    at = file.tell()
            if last:
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def wait_for(children: list[Child]) -> None:
    waiting = list(children)
    while waiting:
        for child in [one for one in waiting if not one.running]:
            waiting.remove(child)
            if child.status != 0:
                raise Failed(f"`{child.name}` ended with status {child.status}:\n{tail(child.log)}")
            say(f"  {child.name} is done")
        time.sleep(0.1)


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "FRAUD_KAFKA_URL": settings.kafka_url,
        "FRAUD_REDIS_URL": settings.redis_url,
        "FRAUD_TOPIC_PREFIX": settings.topic_prefix,
        "FRAUD_GROUP": settings.group,
        "FRAUD_ID_KEY": settings.id_key,
    }


def launch_worker(
    stack: LocalStack, settings: Settings, folder: Path, bundle: Path, *, slot: int = 0, other: Mapping[str, str] = {}
) -> tuple[Child, int]:
    """A worker on its way, with `other` variables of its own, and the port of its metrics."""
    (port,) = free_ports(1)
    own = {"FRAUD_BUNDLE": str(bundle), "FRAUD_SLOT": str(slot), "FRAUD_WEB_PORT": str(port)} | dict(other)
    return run_command(stack, folder, "streaming", "worker", **environment_of(settings), **own), port


def start_worker(
    stack: LocalStack, settings: Settings, folder: Path, bundle: Path, *, other: Mapping[str, str] = {}
) -> Child:
    """A worker that is ready, with `other` variables of its own.  Raises Failed."""
    worker, port = launch_worker(stack, settings, folder, bundle, other=other)
    wait_until_ready(worker, port)
    return worker


def wait_until_ready(worker: Child, port: int) -> None:
    """Raises Failed where it never is."""
    deadline = time.monotonic() + READY_WITHIN
    while not _is_ready(port):
        if not worker.running:
            raise Failed(f"the worker ended with status {worker.status}:\n{tail(worker.log)}")
        if time.monotonic() > deadline:
            raise Failed(f"the worker was not ready within {READY_WITHIN:.0f} s:\n{tail(worker.log)}")
        time.sleep(0.1)
    say(f"  ready; metrics at http://127.0.0.1:{port}/metrics")


def launch_explainer(stack: LocalStack, settings: Settings, folder: Path, bundle: Path) -> Child:
    """On its way: what it has to do can wait."""
    own = {"FRAUD_BUNDLE": str(bundle), "FRAUD_EXPLAINER_PORT": str(free_ports(1)[0])}
    return run_command(stack, folder, "streaming", "explain", name="explainer", **environment_of(settings), **own)


def wait_until_explained(settings: Settings, explainer: Child) -> None:
    """Until no alert awaits its reasons.  Raises Failed where the explainer ends."""

    def none_awaited() -> bool:
        if not explainer.running:
            raise Failed(f"the explainer ended with status {explainer.status}:\n{tail(explainer.log)}")
        return not awaited(settings)

    wait_while_it_moves(none_awaited, lambda: awaited(settings), "alerts that await their reasons")


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def run_live(stream: Stream, frauds: frozenset[str], target: Target, worker: Child) -> tuple[Sent, Answers]:
    """Send it all, read what comes back, and show both.  Raises Failed where the worker ends."""
    with Sending(stream, frauds, target) as sending:
        return sending.run(worker)


class Sending:
    """A sender and a reader that prepare themselves from when it is made on, in processes of their own."""

    def __init__(self, stream: Stream, frauds: frozenset[str], target: Target) -> None:
        """`target` has its topics.  `frauds` are the transactions of which alerts are right."""
        self._stream = stream
        self._sender: Beside[Progress, Sent | None] = Beside(send_stream, stream, target)
        self._reader: Beside[Answers, Answers] = Beside(read_answers, stream.schedule(), target, frauds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._sender, self._reader):
            if one.running:
                one.stop()

    def run(
        self,
        worker: Child,
        *,
        enough: Callable[[Progress | None, Answers | None], bool] = lambda _sent, _answers: False,
    ) -> tuple[Sent, Answers]:
        """Send it all, or until what was sent and answered is `enough`, read what comes back, and show both.

        Raises Failed where the worker ends.
        """
        sender, reader = self._sender, self._reader
        sender.wait_ready()
        reader.wait_ready()
        start_at = time.time_ns() // 1_000 + 200_000
        sender.begin(start_at)
        reader.begin(start_at)
        last, moved_at = -1, time.monotonic()
        with Screen(self._stream) as screen:
            while sender.running or reader.running:
                screen.show(sender.latest(), reader.latest())
                if not worker.running:
                    raise Failed(f"the worker ended with status {worker.status}:\n{tail(worker.log)}")
                answers = reader.latest()
                verdicts = 0 if answers is None else answers.verdicts
                if sender.running and enough(sender.latest(), answers):
                    sender.stop()
                if sender.running or verdicts != last:
                    last, moved_at = verdicts, time.monotonic()
                elif self._all_answered() or time.monotonic() - moved_at > STILL_FOR:
                    reader.stop()  # what has not come by now is lost: the check will say
                time.sleep(0.1)
        sent = sender.result()
        assert sent is not None
        return sent, reader.result()

    def _all_answered(self) -> bool:
        """All that was sent before it was enough."""
        sent, answers = self._sender.latest(), self._reader.latest()
        return sent is not None and answers is not None and answers.verdicts >= sent.transactions


class Screen:
    """Progress, rates and latencies while it runs: a picture on a terminal, a line now and then elsewhere."""

    EVERY = 10.0
    """Seconds between two lines."""

    def __init__(self, stream: Stream) -> None:
        self._of = len(stream.due)
        self._live = Live(console=out, refresh_per_second=4, transient=True) if out.is_terminal else None
        self._said = time.monotonic()

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sent: Progress | None, answers: Answers | None) -> None:
        """What is known now."""
        if sent is None or answers is None:
            return
        if self._live is not None:
            self._live.update(self._picture(sent, answers))
        elif time.monotonic() - self._said > self.EVERY:
            self._said = time.monotonic()
            now = answers.interval
            say(
                f"  {sent.transactions:>7,} sent, {answers.verdicts:>7,} verdicts, {answers.rate:>6,.0f}/s, "
                f"{answers.alerts:,} alerts, latency now p50 {now.p50:.0f} p99 {now.p99:.0f} ms"
            )

    def _picture(self, sent: Progress, answers: Answers) -> Group:
        table = Table("", "now", "in all", box=None, header_style="dim")
        table.add_row("sent", f"{sent.rate:,.0f}/s", f"{sent.transactions:,} of {self._of:,}")
        table.add_row("verdicts", f"{answers.rate:,.0f}/s", f"{answers.verdicts:,}")
        for name, label in (("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9")):
            now, all_ = getattr(answers.interval, name), getattr(answers.total, name)
            table.add_row(f"latency {label}", f"{now:.1f} ms", f"{all_:.1f} ms")
        table.add_row("alerts", "", f"{answers.alerts:,}, {answers.right_alerts:,} of them frauds")
        table.add_row("dead letters", "", f"{sum(answers.dead_letters.values()):,}")
        table.add_row("the world's time", "", f"{sent.world_time:%a %d %b %H:%M}")
        return Group(ProgressBar(total=self._of, completed=answers.verdicts, width=60), table)


def wait_until_settled(settings: Settings) -> None:
    """Until the group has committed all that was sent, and the profiles stand at what is committed.  Raises Failed."""
    client: Any = redis.Redis.from_url(settings.redis_url)
    numbers = range(settings.partitions)
    with Log(settings) as log:
        wait_while_it_moves(
            lambda: all(_settled(log, client, settings, number) for number in numbers),
            lambda: [(log.committed(n)[0], client.get(Keys(settings.topic_prefix, n).position)) for n in numbers],
            "what the workers have committed and remembered",
        )


def _settled(log: Log, client: Any, settings: Settings, number: int) -> bool:
    committed = tuple(one.offset for one in log.committed(number))
    raw = client.get(Keys(settings.topic_prefix, number).position)
    ends = [log.bounds(topic, number)[1] for topic in INPUTS]
    # The end of the activity is a transaction's marker, which nobody folds.
    return bool(raw) and committed[:2] == tuple(ends[:2]) and Position.parse(raw).next[:2] == committed[:2]


def bytes_per_account(settings: Settings, sample: int = 2_000) -> int:
    """The median of what Redis says an account's profile takes, key and all."""
    client: Any = redis.Redis.from_url(settings.redis_url)
    sizes: list[int] = []
    for number in range(settings.partitions):
        keys = Keys(settings.topic_prefix, number)
        position = Position.parse(client.get(keys.position))
        names = []
        for name in client.scan_iter(match=keys.of_epoch(position.epoch).replace("[ac]:*", "a:*"), count=1_000):
            names.append(name)
            if len(names) == sample // settings.partitions:
                break
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.memory_usage(name)
            sizes += pipeline.execute()
    return int(statistics.median(sizes)) if sizes else 0


def versions(settings: Settings) -> dict[str, str]:
    packages = ("faust-streaming", "confluent-kafka", "onnxruntime", "lightgbm", "numba", "redis")
    client: Any = redis.Redis.from_url(settings.redis_url)
    info = client.info("server")
    jars = (Path(__file__).parent.parent / "deploy/local/kafka_jars.lock").read_text()
    kafka = next((line.split(":")[2].split()[0] for line in jars.splitlines() if ":kafka_2.13:" in line), "?")
    return {
        "kafka": kafka,
        info.get("server_name", "redis"): str(info.get("valkey_version", info["redis_version"])),
        "python": sys.version.split()[0],
        **{name: version(name) for name in packages},
    }
