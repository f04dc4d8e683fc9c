"""What `make up` leaves running mends itself, and `make down` ends all of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from deploy.local.children import tail
from deploy.local.jars import PROJECT
from deploy.local.supervisor import Standing, judge, standing
from tests.integration.waiting import lives, within

WORKER = """
import http.server, os, sys

class Readiness(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["FRAUD_KAFKA_URL"].encode())

http.server.HTTPServer(("127.0.0.1", int(os.environ["FRAUD_WEB_PORT"])), Readiness).serve_forever()
"""
SUPERVISOR = """
import sys
from pathlib import Path
from deploy.local.supervisor import main

sys.exit(main(Path(sys.argv[3]), sys.argv[4:7], sys.argv[7:], prefix=sys.argv[1], servers_only=sys.argv[2] == "True"))
"""
EXPLAINER = "import time; time.sleep(1_000)"
REFUSES_ITS_SETTINGS = "import sys; print('FRAUD_SLOT: not a number'); sys.exit(2)"


def a_supervisor(folder: Path, worker: str, *, prefix: str = "", servers_only: bool = False) -> subprocess.Popen[bytes]:
    with (folder / "supervisor.log").open("wb") as output:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                SUPERVISOR,
                prefix,
                str(servers_only),
                str(folder),
                sys.executable,
                "-c",
                worker,
                sys.executable,
                "-c",
                EXPLAINER,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = a_supervisor(tmp_path, WORKER)
    try:
        within(60, lambda: (found := standing(tmp_path)) is not None and found.ready)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_crashed_worker_is_started_again(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    running = now(tmp_path)
    assert running.worker
    assert said_by(running.worker) == running.kafka
    first = worker_of(supervisor)

    first.kill()
    within(20, lambda: not lives(first.pid))
    within(20, lambda: len(psutil.Process(supervisor.pid).children()) == 4)

    within(20, lambda: answers(running.worker))
    assert worker_of(supervisor).pid != first.pid
    assert "the worker ended with status -9" in tail(tmp_path / "supervisor.log")


def test_a_crashed_explainer_is_started_again(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    within(20, lambda: bool(running(supervisor, EXPLAINER)))
    (first,) = running(supervisor, EXPLAINER)

    first.kill()
    within(20, lambda: not lives(first.pid))
    within(20, lambda: bool(running(supervisor, EXPLAINER)))

    assert "the explainer ended with status -9" in tail(tmp_path / "supervisor.log")
    assert worker_of(supervisor).is_running()


def test_all_of_it_ends_with_sigterm(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    within(20, lambda: len(psutil.Process(supervisor.pid).children()) == 4)
    children = psutil.Process(supervisor.pid).children()

    supervisor.terminate()

    assert supervisor.wait(30) == 0
    assert not any(lives(child.pid) for child in children)
    assert standing(tmp_path) is None
    assert not (tmp_path / "up.json").exists()


def test_a_worker_that_refuses_its_settings_is_not_started_again(tmp_path: Path) -> None:
    supervisor = a_supervisor(tmp_path, REFUSES_ITS_SETTINGS)

    assert supervisor.wait(60) == 1
    assert "FRAUD_SLOT: not a number" in tail(tmp_path / "supervisor.log")
    assert standing(tmp_path) is None


def test_servers_alone_get_a_worker_when_they_are_asked_for_one(tmp_path: Path) -> None:
    """A past is loaded between the two."""
    supervisor = a_supervisor(tmp_path, WORKER, prefix="bank-", servers_only=True)
    try:
        within(60, lambda: (found := standing(tmp_path)) is not None and found.serves)
        alone = now(tmp_path)
        assert (alone.ready, alone.prefix) == (False, "bank-")
        assert (
            "bank-transactions" in AdminClient({"bootstrap.servers": str(alone.kafka)}).list_topics(timeout=20).topics
        )

        judge(alone)

        within(60, lambda: now(tmp_path).ready)
        running = now(tmp_path)
        assert (running.kafka, running.redis) == (alone.kafka, alone.redis)
        assert said_by(str(running.worker)) == running.kafka
    finally:
        supervisor.terminate()
        assert supervisor.wait(60) == 0


@pytest.mark.parametrize("asking", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_it_is_being_started_leaves_no_process(tmp_path: Path, asking: signal.Signals) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "up", "--servers-only", "--folder", str(tmp_path)],
        cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    within(60, lambda: len(descendants(up.pid)) >= 3)  # the supervisor, and both servers on their way
    begun = descendants(up.pid)

    up.send_signal(asking)

    assert "nothing that was being started is left" in up.communicate(timeout=120)[1]
    assert up.returncode == 130
    assert not any(lives(pid) for pid in begun)
    assert standing(tmp_path) is None


def descendants(pid: int) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


def now(folder: Path) -> Standing:
    found = standing(folder)
    assert found is not None
    return found


def worker_of(supervisor: subprocess.Popen[bytes]) -> psutil.Process:
    (worker,) = running(supervisor, WORKER)
    return worker


def running(supervisor: subprocess.Popen[bytes], program: str) -> list[psutil.Process]:
    return [child for child in psutil.Process(supervisor.pid).children() if program in command_of(child)]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it has just ended
        return []


def said_by(worker: str) -> str:
    with urllib.request.urlopen(f"{worker}/readyz", timeout=5) as answer:
        return str(answer.read().decode())


def answers(worker: str | None) -> bool:
    assert worker
    try:
        return bool(said_by(worker))
    except OSError:
        return False
