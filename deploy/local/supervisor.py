"""What `make up` leaves running: a process that owns Kafka, Redis, one worker and one explainer, and starts again what crashes.

The four end with it, also when it is killed; `up.json` in the stack's folder says where everything is.  Asked for the servers
alone (a past is loaded before the first worker starts), it starts the other two at SIGUSR1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from deploy.local.children import Child, FailedToStart, LocalStackError, tail
from deploy.local.id_key import SETTING, id_key
from deploy.local.jars import PROJECT
from deploy.local.ports import LOOPBACK, free_ports, is_free
from deploy.local.stack import LocalStack
from schemas import installation

WORKER = (sys.executable, "-m", "streaming", "worker")
EXPLAINER = (sys.executable, "-m", "streaming", "explain")
PORTS = {"worker": ("FRAUD_WEB_PORT", 6066), "explainer": ("FRAUD_EXPLAINER_PORT", 6067)}
"""For /metrics and the like: the setting, and its default; another where that is taken."""
WORKER_READY_WITHIN = 180.0
"""Seconds; the most of it is for the kernel's first compilation."""
LONGEST_PAUSE = 30.0
"""Seconds between two starts of a worker that keeps ending."""
WRONG_SETTINGS = 2
"""A worker's exit status when starting it again would not help."""

log = logging.getLogger(__name__)


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `make up` started: the supervisor, and once all is ready the addresses."""

    pid: int
    prefix: str = ""
    """Before the names of its topics: which installation it is."""
    born: float
    """The process' start, so that a pid used again is not taken for it."""
    kafka: str | None = None
    redis: str | None = None
    worker: str | None = None
    explainer: str | None = None

    @property
    def serves(self) -> bool:
        """Kafka and Redis do, and have the topics."""
        return self.kafka is not None

    @property
    def ready(self) -> bool:
        return self.worker is not None

    @property
    def process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            gone = process.create_time() != self.born or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return None if gone else process


def standing(folder: Path) -> Standing | None:
    """What runs there now; None where nothing does."""
    try:
        found = msgspec.json.decode((folder / "up.json").read_bytes(), type=Standing)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if found.process else None


def judge(running: Standing) -> None:
    """Asks a supervisor that runs servers alone for a worker and an explainer."""
    if running.process is not None:
        running.process.send_signal(signal.SIGUSR1)


def supervise(
    folder: Path,
    worker_command: Sequence[str],
    explainer_command: Sequence[str],
    *,
    prefix: str = "",
    servers_only: bool = False,
) -> None:
    """The stack, a worker and an explainer by these commands, until SIGTERM or SIGINT; `servers_only`: the two at SIGUSR1.

    `prefix`: of the topics.  Raises what LocalStack raises, and FailedToStart for the worker.
    """
    asked_to_stop, asked_to_judge = threading.Event(), threading.Event()
    for asking in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asking, lambda _number, _frame: asked_to_stop.set())
    signal.signal(signal.SIGUSR1, lambda _number, _frame: asked_to_judge.set())
    if not servers_only:
        asked_to_judge.set()

    with LocalStack(folder) as stack:
        note = folder / "up.json"
        try:
            us = Standing(pid=os.getpid(), prefix=prefix, born=psutil.Process().create_time())
            write(note, us)
            stack.create_topics(prefix)
            where = {"kafka": stack.kafka_url, "redis": stack.redis_url}
            write(note, msgspec.structs.replace(us, **where))
            keep_running(stack, (), asked_to_stop, until=asked_to_judge)
            if asked_to_stop.is_set():
                return
            worker = Program("worker", stack, worker_command, prefix)
            explainer = Program("explainer", stack, explainer_command, prefix)
            worker.launch()
            worker.wait_until_ready(asked_to_stop)
            explainer.launch()  # nothing waits for it: alerts do that
            write(note, msgspec.structs.replace(us, **where, worker=worker.url, explainer=explainer.url))
            keep_running(stack, (worker, explainer), asked_to_stop)
        finally:
            note.unlink(missing_ok=True)


def keep_running(
    stack: LocalStack,
    programs: Sequence[Program],
    asked_to_stop: threading.Event,
    *,
    until: threading.Event | None = None,
) -> None:
    """What crashes is started again, until it is asked to stop, or `until` is set."""
    while not asked_to_stop.is_set() and not (until is not None and until.is_set()):
        if (asked_to_stop if until is None else until).wait(1.0):
            continue
        if not stack.redis.running:
            log.warning("Redis ended; starting it again")
            stack.start_redis()
        if not stack.kafka.running:
            log.warning("Kafka ended; starting it again")
            stack.start_kafka()
        for program in programs:
            if program.ended_with == WRONG_SETTINGS:
                raise FailedToStart(f"the {program.name} refuses its settings.  Its log says:\n{tail(program.log)}")
            if program.ended_with is not None:
                log.warning(
                    "the %s ended with status %s; again in %.0f s", program.name, program.ended_with, program.pause
                )
                asked_to_stop.wait(program.pause)
                program.pause = min(2 * program.pause, LONGEST_PAUSE)
                program.launch()


def write(note: Path, what: Standing) -> None:
    unfinished = note.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode(what))
    unfinished.replace(note)


class Program:
    """A worker or an explainer on the stack's Kafka and Redis."""

    def __init__(self, name: str, stack: LocalStack, command: Sequence[str], prefix: str) -> None:
        self.name = name
        self._prefix = prefix
        self.pause = 1.0
        """Seconds before it is started again."""
        self._port_setting, port = PORTS[name]
        self._port = port if is_free(port) else free_ports(1)[0]
        self._stack = stack
        self._command = command
        self._child: Child | None = None
        self.url = f"http://{LOOPBACK}:{self._port}"
        self.log = stack.folder / f"{name}.log"

    @property
    def ended_with(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._child.status if self._child else None

    def launch(self) -> None:
        settings = {
            "FRAUD_KAFKA_URL": self._stack.kafka_url,
            "FRAUD_REDIS_URL": self._stack.redis_url,
            "FRAUD_TOPIC_PREFIX": self._prefix,
            "FRAUD_BUNDLE": str(PROJECT / installation.bundle(self._prefix)),
            "FRAUD_SLOT": "0",
            SETTING: id_key(),
            self._port_setting: str(self._port),
        }
        self._child = self._stack.children.start(
            self.name,
            self._command,
            folder=PROJECT,
            log=self.log,
            environment={**os.environ, **settings},
        )

    def wait_until_ready(self, asked_to_stop: threading.Event) -> None:
        """Raises FailedToStart, with what the worker is waiting for or with the tail of its log."""
        deadline = time.monotonic() + WORKER_READY_WITHIN
        while not asked_to_stop.wait(0.2):
            ready, answer = self._readiness()
            if ready:
                return
            if self.ended_with is not None:
                raise FailedToStart(
                    f"the {self.name} ended with status {self.ended_with}.  Its log says:\n{tail(self.log)}"
                )
            if time.monotonic() > deadline:
                raise FailedToStart(f"the {self.name} is not ready: {answer}\nIts log says:\n{tail(self.log)}")

    def _readiness(self) -> tuple[bool, str]:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:  # noqa: S310 - it is http
                return True, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as refusal:
            with refusal:
                return False, refusal.read().decode(errors="replace")
        except OSError as problem:
            return False, str(problem)


def main(
    folder: Path,
    worker: Sequence[str] = WORKER,
    explainer: Sequence[str] = EXPLAINER,
    *,
    prefix: str = "",
    servers_only: bool = False,
) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    try:
        supervise(folder, worker, explainer, prefix=prefix, servers_only=servers_only)
    except LocalStackError as problem:
        print(problem, flush=True)
        return 1
    return 0
