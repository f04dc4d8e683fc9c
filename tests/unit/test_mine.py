"""`make mine` and `make up`: whose model judges, what is replaced, and that nothing is left where it is broken off."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from deploy.local.mine import MINE, Walk, live_since, walk
from deploy.local.models import DEMOS, judging, require_model
from deploy.local.supervisor import Standing
from loadgen.samples import write_sample
from schemas import installation
from schemas.errors import WrongSettings


class House:
    """Where the walk goes: what is asked of it, in order, and what stands."""

    def __init__(self, home: Path, *, fails: str | None = None, interrupted: str | None = None) -> None:
        self.home, self.fails, self.interrupted = home, fails, interrupted
        self.steps: list[str] = []
        self.stands: Standing | None = None
        self.prefixes: list[str | None] = []

    def command(self, arguments: list[str]) -> None:
        said = " ".join(arguments[2:])
        self.steps.append(said)
        self.prefixes.append(os.environ.get("FRAUD_TOPIC_PREFIX"))
        if self.interrupted and said.startswith(self.interrupted):
            raise KeyboardInterrupt
        if self.fails and said.startswith(self.fails):
            raise typer.Exit(1)

    def started(self, prefix: str, folder: Path | None = None, *, servers_only: bool = False) -> Standing:
        self.steps.append("servers" if servers_only else "up")
        worker = None if servers_only else "http://127.0.0.1:1"
        self.stands = Standing(pid=1, born=1.0, prefix=prefix, kafka="k:1", redis="redis://r:1/0", worker=worker)
        return self.stands

    def end(self, running: Standing) -> None:
        self.steps.append("end")
        self.stands = None

    def walk(self, table: Path, prefix: str = MINE) -> Standing:
        wanted = Walk(table=table, mapping=Path("card-payments"), since=None, rate=200.0, prefix=prefix)
        return walk(wanted, self.started, self.end, command=self.command, stands=lambda _: self.stands, home=self.home)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_sample("card-payments", tmp_path / "payments.csv")
    return tmp_path / "payments.csv"


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_model_is_learnt_before_anything_is_loaded_and_loaded_before_anything_judges(
    table: Path, tmp_path: Path
) -> None:
    house = House(tmp_path)

    assert house.walk(table).ready

    names = [" ".join(step.split()[:2]) for step in house.steps]
    assert names == [
        "training validate", "training run", "servers", "features load", "up", "loadgen replay", "loadgen check",
    ]  # fmt: skip
    cut = "2024-03-26T00:00:00Z"
    assert f"--train-until {cut}" in house.steps[1]
    assert f"--until {cut}" in house.steps[3]
    assert f"--since {cut}" in house.steps[5]
    assert set(house.prefixes) == {MINE}


def test_a_mapping_is_drafted_where_there_is_none_and_left_as_it_is_where_there_is_one(
    table: Path, tmp_path: Path
) -> None:
    for there in (False, True):
        house = House(tmp_path, fails="training validate")
        if there:
            table.with_name("payments.mapping.toml").write_text("somebody's own")
        with pytest.raises(typer.Exit):
            walk(
                Walk(table=table, mapping=None, since=None, rate=200.0, prefix=MINE),
                house.started, house.end, command=house.command, stands=lambda _: None, home=tmp_path,
            )  # fmt: skip
        assert house.steps[0].startswith("training validate" if there else "loadgen mapping")


@pytest.mark.parametrize("step", ["training run", "features load", "loadgen replay", "loadgen check"])
def test_nothing_is_left_running_where_a_step_fails_or_is_interrupted(step: str, table: Path, tmp_path: Path) -> None:
    for house in (House(tmp_path, fails=step), House(tmp_path, interrupted=step)):
        with pytest.raises((typer.Exit, KeyboardInterrupt)):
            house.walk(table)
        assert house.stands is None
        assert house.steps[-1] == ("end" if step != "training run" else house.steps[1])


def test_what_an_earlier_walk_left_is_replaced_and_nothing_of_anybody_else(table: Path, tmp_path: Path) -> None:
    for prefix in ("", MINE, "bank-"):
        (tmp_path / installation.servers(prefix) / "kafka").mkdir(parents=True)
        folder = tmp_path / installation.bundles(prefix)
        (folder / "0123456789abcdef").mkdir(parents=True)
        (folder / "current").symlink_to("0123456789abcdef")

    House(tmp_path).walk(table)

    kept = {prefix: (tmp_path / installation.bundle(prefix)).exists() for prefix in ("", MINE, "bank-")}
    assert kept == {"": True, MINE: False, "bank-": True}
    assert (tmp_path / installation.servers("bank-") / "kafka").exists()
    with pytest.raises(WrongSettings, match="bank- has data or a model already"):
        House(tmp_path).walk(table, prefix="bank-")
    running = House(tmp_path)
    running.stands = Standing(pid=1, born=1.0, prefix=MINE)
    with pytest.raises(WrongSettings, match="runs already: FRAUD_TOPIC_PREFIX=mine- make down"):
        running.walk(table)
    with pytest.raises(WrongSettings, match="there is no file"):
        House(tmp_path).walk(tmp_path / "none.csv")


def test_about_the_newest_tenth_is_live(table: Path, tmp_path: Path) -> None:
    assert live_since(table, Path("card-payments")) == datetime(2024, 3, 26, tzinfo=UTC)
    short = tmp_path / "short.csv"
    lines = table.read_text().splitlines()
    short.write_text("\n".join([lines[0], *lines[1:40]]) + "\n")
    assert live_since(short, Path("card-payments")) > datetime(2024, 2, 1, 3, tzinfo=UTC)


class Metrics(http.server.BaseHTTPRequestHandler):
    """A worker's page of metrics."""

    said = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...


@pytest.fixture
def worker() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_whose_model_judges_is_said_as_the_worker_says_it(worker: str, tmp_path: Path) -> None:
    demos, own = "a" * 16, "b" * 16
    (tmp_path / DEMOS / demos).mkdir(parents=True)
    running = Standing(pid=1, born=1.0, prefix="", kafka="k:1", redis="redis://r:1/0", worker=worker)

    def said(champion: str, other: str) -> str:
        lines = [
            f'fraud_bundle_info{{bundle="{other}",policy="1",role="challenger"}} 1.0',
            f'fraud_bundle_info{{bundle="{other}",policy="1",role="champion"}} 0.0',
            f'fraud_bundle_info{{bundle="{champion}",policy="1",role="champion"}} 1.0',
        ]
        Metrics.said = "\n".join(lines).encode()
        return judging(running, home=tmp_path)

    assert said(demos, own).startswith(f"{demos}: the demo's, learnt from a simulated world. It knows nothing of your")
    assert "make mine TABLE=" in said(demos, own)
    assert said(own, demos) == f"{own}: learnt here (training models {own})"


def test_where_there_is_no_model_the_demos_is_taken_and_stays_the_demos(tmp_path: Path) -> None:
    def make(command: list[str]) -> None:
        assert command[2:] == ["loadgen", "demo", "--model-only"]
        (tmp_path / DEMOS / "abc").mkdir(parents=True)
        (tmp_path / DEMOS / "abc" / "model.onnx").write_text("trees")
        (tmp_path / DEMOS / "current").symlink_to("abc")

    def make_none(_command: list[str]) -> None:
        raise AssertionError

    require_model("", home=tmp_path, command=make)
    require_model("bank-", home=tmp_path, command=make_none)
    require_model("bank-", home=tmp_path, command=make_none)

    for prefix in ("", "bank-"):
        assert (tmp_path / installation.bundle(prefix) / "model.onnx").read_text() == "trees"
        assert not (tmp_path / installation.bundles(prefix) / "abc").is_symlink()
        stands = Standing(pid=1, born=1.0, prefix=prefix)
        assert "the demo's" in judging(stands, home=tmp_path)


PARENT = """
import signal, sys
from pathlib import Path
from deploy.local.models import run
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run([sys.executable, "-c", sys.argv[1]], folder=Path.cwd())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
CHILD = """
import signal, time
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
print("begun", flush=True)
ends = time.monotonic() + 120  # whatever becomes of the test
while not heard and time.monotonic() < ends:
    time.sleep(0.01)
print("ended", len(heard), flush=True)
"""


def test_a_command_hears_of_ctrl_c_once_and_is_waited_for() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"

    parent.send_signal(signal.SIGINT)

    assert parent.communicate(timeout=60)[0].splitlines() == ["ended 1", "interrupted"]
