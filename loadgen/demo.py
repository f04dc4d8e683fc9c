"""`make demo`: the main job from nothing, on a real Kafka and a real Redis, and what came of it."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import polars as pl
import redis
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from deploy.local.children import AlreadyRunning, Child, FailedToStart, tail
from deploy.local.ports import free_ports
from deploy.local.stack import LocalStack
from features.log import Log
from features.position import Keys, Position
from features.settings import Settings
from loadgen.beside import Beside, read_answers, send_stream
from loadgen.check import Report, check
from loadgen.latency import Latency
from loadgen.mischief import DUPLICATE, Mischief, expected
from loadgen.reader import Answers
from loadgen.simulate import Past, World, simulate, world_ending
from loadgen.stream import Progress, Sent, Stream
from loadgen.target import Target
from schemas.topics import INPUTS

FOLDER = Path(".local/demo")
BUNDLES = Path(".local/bundles")
PER_DAY = 24_000
HISTORY_DAYS = 28
MISCHIEF = Mischief(malformed=0.002, duplicates=0.002, seed=11)
READY_WITHIN = 120.0
SETTLE_WITHIN = 60.0
KEPT_UP_WITHIN_MS = 1_000.0
"""The worker kept up if its last verdict was no later than this, and the sender if 99 % of its messages weren't."""

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class Failed(Exception):
    """A part of the demo did not do its work; the message says which, and what it said last."""


class DemoReport(msgspec.Struct, kw_only=True):
    """`.local/demo/report.json`."""

    sent: int
    """Transactions that were due one verdict each."""
    verdicts: int
    alerts: int
    dead_lettered: dict[str, int]
    dead_letters_planned: dict[str, int]
    duplicates_sent: int
    lost: int
    doubled: int
    contradicting: int
    profiles_compared: int
    profiles_different: int
    vectors_compared: int
    vectors_different_if_instant: int
    activity_late: int
    latency_ms: Latency
    """From when a transaction was due to its verdict, as a read_committed consumer sees it."""
    histogram: str
    """The same, HdrHistogram V2 in base64, in microseconds."""
    sender_lateness_ms: Latency
    rate: float
    kept_up: bool
    precision: float
    """Of the alerts: frauds among them, by the simulated truth."""
    recall: float
    """Of the frauds: alerts among them."""
    redis_bytes_per_account: int
    """Median of MEMORY USAGE, key and all."""
    model: dict[str, float]
    bundle: str
    seconds: dict[str, float]
    versions: dict[str, str]

    @property
    def well(self) -> bool:
        """What the demo promises."""
        return not (
            self.lost or self.doubled or self.contradicting or self.profiles_different
            or self.verdicts != self.sent or self.dead_lettered != self.dead_letters_planned
        )  # fmt: skip


@dataclass
class _Steps:
    """What is being done, for the screen."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        _say(f"• {name} …")
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        _say(f"  {name}: {self.seconds[name]:.0f} s")


def _say(text: str) -> None:
    _out.print(text, markup=False)


@app.command()
def run(
    transactions: Annotated[int, typer.Option(min=1_000, help="Live transactions.")] = 240_000,
    rate: Annotated[float, typer.Option(min=1, help="How many of them a second.")] = 2_000.0,
    seed: Annotated[int, typer.Option(min=0, help="One seed, one world.")] = 7,
    accounts: Annotated[int, typer.Option(min=100)] = 8_000,
    model_only: Annotated[bool, typer.Option(help="Simulate and train, and leave the bundle for `make up`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON at the end.")] = False,
) -> None:
    """The main job: simulate, train, load, score live transactions on a real Kafka and a real Redis, sum up.

    Exit status 1 if anything was lost, doubled or contradicting. Ctrl-C leaves no process and no port behind.

    Example: loadgen demo --transactions 60000 --rate 1000
    """
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: everything that was started is ended
    try:
        status = (
            _model_only(transactions, seed, accounts)
            if model_only
            else _demo(transactions, rate, seed, accounts, as_json)
        )
    except AlreadyRunning as running:
        _say(f"a demo is running already, as process {running.pid}: wait for it, or end it (kill {running.pid})")
        status = 2
    except (Failed, FailedToStart) as failed:
        _say(f"the demo failed: {failed}")
        status = 1
    except KeyboardInterrupt:
        _say("stopped; nothing is left running")
        status = 130
    sys.exit(status)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _demo(count: int, rate: float, seed: int, accounts: int, as_json: bool) -> int:
    steps = _Steps()
    stack = LocalStack(FOLDER / "stack", fresh=True)
    try:
        with steps.step("starting Kafka and Redis"):  # first: it claims the folder
            stack.start()
            stack.create_topics()
            _say(f"  Kafka at {stack.kafka_url}, Redis at {stack.redis_url}")
        settings = Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url)
        with steps.step("simulating a world"):
            past, live = _world(count, seed, accounts)
            _say(
                f"  {accounts:,} accounts; {past.transactions.height:,} transactions of history, "
                f"{live.transactions.height:,} to come, {live.truth['is_fraud'].sum():,} of them frauds"
            )
        with steps.step("training a model, and loading the history meanwhile"):
            _train_and_load(stack, settings)
        with steps.step("starting a worker"):
            worker = _start_worker(stack, settings)
        stream = Stream(live.transactions, live.labels, rate=rate, mischief=MISCHIEF)
        frauds = frozenset(live.truth.filter("is_fraud")["transaction_id"].to_list())
        with steps.step(f"sending {count:,} transactions at {rate:,.0f} a second"):
            sent, answers = _live(stream, frauds, Target(url=stack.kafka_url), worker)
        with steps.step("checking every verdict against the log"):
            _wait_until_settled(settings)
            found = check(settings)
        report = _report(stream, sent, answers, found, len(frauds), settings, steps)
    finally:
        stack.stop()
    _write(report)
    _summary(report, found)
    if as_json:
        print(msgspec.json.encode(report).decode())
    return 0 if report.well else 1


def _model_only(count: int, seed: int, accounts: int) -> int:
    with LocalStack(FOLDER / "stack", kafka=False, redis=False) as stack:
        _say("simulating a world")
        _world(count, seed, accounts)
        _say("training a model")
        training = _command(stack, "training", "run", str(FOLDER / "history"), "--out", str(BUNDLES))
        _wait_for([training])
    _say(f"the bundle is {BUNDLES / 'current'}")
    return 0


def _world(count: int, seed: int, accounts: int) -> tuple[Past, Past]:
    """A past, written to `.local/demo/history`, and the part after it, which ends now and is sent live.

    The live part's time is compressed: so many days go by in two minutes that windows move and labels arrive.  It begins
    that long before now, so that nothing is from the future.
    """
    live_days = count / PER_DAY
    world: World = world_ending(
        datetime.now(UTC), HISTORY_DAYS + 1.2 * live_days, seed=seed, accounts=accounts, per_day=PER_DAY
    )
    whole = simulate(world)
    if whole.transactions.height <= 2 * count:
        raise Failed(f"the world has only {whole.transactions.height:,} transactions: ask for fewer live ones")
    begin = whole.transactions["occurred_at"][-count]
    history = Past(
        transactions=whole.transactions[:-count],
        labels=whole.labels.filter(pl.col("known_at") < begin),
        truth=whole.truth[:-count],
    )
    live = Past(
        transactions=whole.transactions[-count:],
        labels=whole.labels.filter(pl.col("known_at") >= begin),
        truth=whole.truth[-count:],
    )
    folder = FOLDER / "history"
    folder.mkdir(parents=True, exist_ok=True)
    history.transactions.write_parquet(folder / "transactions.parquet")
    history.labels.write_parquet(folder / "labels.parquet")
    return history, live


def _command(stack: LocalStack, *arguments: str, **environment: str) -> Child:
    """One of the project's own commands, as a user would give it."""
    log = FOLDER / f"{arguments[0]}.log"
    log.unlink(missing_ok=True)
    return stack.children.start(
        arguments[0],
        [sys.executable, "-m", *arguments],
        folder=Path.cwd(),
        log=log,
        environment=dict(os.environ) | environment,
    )


def _wait_for(children: list[Child]) -> None:
    waiting = list(children)
    while waiting:
        for child in [one for one in waiting if not one.running]:
            waiting.remove(child)
            if child.status != 0:
                raise Failed(f"`{child.name}` ended with status {child.status}:\n{tail(child.log)}")
            _say(f"  {child.name} is done")
        time.sleep(0.1)


def _train_and_load(stack: LocalStack, settings: Settings) -> None:
    history = str(FOLDER / "history")
    training = _command(stack, "training", "run", history, "--out", str(BUNDLES))
    loading = _command(stack, "features", "load", history, **_environment(settings))
    _wait_for([training, loading])
    manifest = json.loads((BUNDLES / "current" / "bundle.json").read_text())
    metrics = manifest["metrics"]
    shown = ", ".join(
        f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in ("auc", "average_precision") if name in metrics
    )
    _say(f"  the model on later transactions: {shown}")


def _environment(settings: Settings) -> dict[str, str]:
    return {"FRAUD_KAFKA_URL": settings.kafka_url, "FRAUD_REDIS_URL": settings.redis_url}


def _start_worker(stack: LocalStack, settings: Settings) -> Child:
    (port,) = free_ports(1)
    worker = _command(
        stack, "streaming", "worker", **_environment(settings),
        FRAUD_BUNDLE=str(BUNDLES / "current"), FRAUD_SLOT="0", FRAUD_WEB_PORT=str(port),
    )  # fmt: skip
    deadline = time.monotonic() + READY_WITHIN
    while not _is_ready(port):
        if not worker.running:
            raise Failed(f"the worker ended with status {worker.status}:\n{tail(worker.log)}")
        if time.monotonic() > deadline:
            raise Failed(f"the worker was not ready within {READY_WITHIN:.0f} s:\n{tail(worker.log)}")
        time.sleep(0.1)
    _say(f"  ready; metrics at http://127.0.0.1:{port}/metrics")
    return worker


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _live(stream: Stream, frauds: frozenset[str], target: Target, worker: Child) -> tuple[Sent, Answers]:
    """Send it all, read what comes back, and show both."""
    sender: Beside[Progress, Sent | None] = Beside(send_stream, stream, target)
    reader: Beside[Answers, Answers] = Beside(read_answers, stream.schedule(), target, frauds)
    try:
        sender.wait_ready()
        reader.wait_ready()
        start_at = time.time_ns() // 1_000 + 200_000
        sender.begin(start_at)
        reader.begin(start_at)
        over_at: float | None = None
        with _Screen(stream) as screen:
            while sender.running or reader.running:
                screen.show(sender.latest(), reader.latest())
                if not worker.running:
                    raise Failed(f"the worker ended with status {worker.status}:\n{tail(worker.log)}")
                if not sender.running:
                    over_at = over_at or time.monotonic()
                    if time.monotonic() - over_at > SETTLE_WITHIN:
                        reader.stop()  # what has not come by now is lost, or late beyond excuse: the check will say
                time.sleep(0.1)
        sent = sender.result()
        assert sent is not None
        return sent, reader.result()
    finally:
        for one in (sender, reader):
            if one.running:
                one.stop()


class _Screen:
    """Progress, rates and latencies while it runs: a picture on a terminal, a line now and then elsewhere."""

    EVERY = 10.0
    """Seconds between two lines."""

    def __init__(self, stream: Stream) -> None:
        self._of = len(stream.due)
        self._live = Live(console=_out, refresh_per_second=4, transient=True) if _out.is_terminal else None
        self._said = time.monotonic()

    def __enter__(self) -> _Screen:
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
            _say(
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


def _wait_until_settled(settings: Settings) -> None:
    """Until the group has committed all that was sent, and the profiles stand at what is committed."""
    deadline = time.monotonic() + SETTLE_WITHIN
    client: Any = redis.Redis.from_url(settings.redis_url)
    with Log(settings) as log:
        while time.monotonic() < deadline:
            if all(_settled(log, client, settings, number) for number in range(settings.partitions)):
                return
            time.sleep(0.2)


def _settled(log: Log, client: Any, settings: Settings, number: int) -> bool:
    committed, _ = log.committed(number)
    raw = client.get(Keys(settings.topic_prefix, number).position)
    ends = [log.bounds(topic, number)[1] for topic in INPUTS]
    # The end of the activity is a transaction's marker, which nobody folds.
    return bool(raw) and committed[:2] == tuple(ends[:2]) and Position.parse(raw).next[:2] == committed[:2]


def _report(
    stream: Stream, sent: Sent, answers: Answers, found: Report, frauds: int, settings: Settings, steps: _Steps
) -> DemoReport:
    planned = expected(stream.planted)
    duplicates = planned.pop(DUPLICATE, 0)
    manifest = json.loads((BUNDLES / "current" / "bundle.json").read_text())
    last = stream.duration() + KEPT_UP_WITHIN_MS / 1e3
    return DemoReport(
        sent=sent.transactions,
        verdicts=found.verdicts,
        alerts=found.alerts,
        dead_lettered=dict(sorted(found.dead_lettered.items())),
        dead_letters_planned=dict(sorted(planned.items())),
        duplicates_sent=duplicates,
        lost=found.lost + answers.awaited + sum(sent.failed.values()),
        doubled=found.doubled,
        contradicting=found.contradicting,
        profiles_compared=found.profiles_compared,
        profiles_different=found.profiles_different,
        vectors_compared=found.vectors_compared,
        vectors_different_if_instant=found.vectors_different_if_instant,
        activity_late=found.activity_late,
        latency_ms=answers.total,
        histogram=answers.histogram,
        sender_lateness_ms=sent.lateness,
        rate=sent.rate,
        kept_up=bool(
            answers.total.p99 < KEPT_UP_WITHIN_MS and sent.lateness.p99 < KEPT_UP_WITHIN_MS and sent.seconds < last + 5
        ),
        precision=answers.right_alerts / answers.alerts if answers.alerts else 0.0,
        recall=answers.right_alerts / frauds if frauds else 0.0,
        redis_bytes_per_account=_bytes_per_account(settings),
        model=manifest["metrics"],
        bundle=(BUNDLES / "current").resolve().name,
        seconds=steps.seconds,
        versions=_versions(settings),
    )


def _bytes_per_account(settings: Settings, sample: int = 2_000) -> int:
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


def _versions(settings: Settings) -> dict[str, str]:
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


def _write(report: DemoReport) -> None:
    target = FOLDER / "report.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    partial.replace(target)


def _summary(report: DemoReport, found: Report) -> None:
    latency = report.latency_ms
    planned = "as planned" if report.dead_lettered == report.dead_letters_planned else "NOT as planned"
    kept_up = "kept up" if report.kept_up else "did NOT keep up"
    named = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "p99.9": latency.p99_9, "max": latency.max}
    rows = [
        ("sent", f"{report.sent:,} transactions at {report.rate:,.0f} a second; {kept_up}"),
        ("verdicts", f"{report.verdicts:,}"),
        ("lost, doubled, contradicting", f"{report.lost}, {report.doubled}, {report.contradicting}"),
        ("dead letters", f"{sum(report.dead_lettered.values()):,}, {planned}"),
        ("duplicates", f"{report.duplicates_sent:,} sent, one verdict each"),
        ("alerts", f"{report.alerts:,}; precision {report.precision:.1%}, recall {report.recall:.1%} (simulated truth)"),
        ("due to verdict", ", ".join(f"{name} {ms:.1f}" for name, ms in named.items()) + " ms"),
        ("vectors computed again", f"{report.vectors_compared:,}, bit for bit"),
        ("profiles folded again", f"{report.profiles_compared:,}, {report.profiles_different} different"),
        ("Redis", f"{report.redis_bytes_per_account:,} bytes an account"),
    ]  # fmt: skip
    table = Table("", "", show_header=False, box=None, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    _out.print()
    _out.print(table)
    for example in found.examples:
        _say(f"  {example}")
    _out.print()
    _say(
        f"{'All is well.' if report.well else 'Something is wrong: see above.'} The report is {FOLDER / 'report.json'},"
    )
    _say(f"how good the model is says {BUNDLES / 'current' / 'evaluation.html'}.")
    _say("What next: `make up` leaves all of it running, for your own transactions; README.md says how to send one.")
