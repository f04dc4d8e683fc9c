"""`make demo`: the main job from nothing, on a real Kafka and a real Redis, and what came of it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl
import typer
from rich.table import Table as Lines

from deploy.local.children import AlreadyRunning, FailedToStart
from deploy.local.stack import LocalStack
from features.archive_tables import ARCHIVED, Place, Table
from features.log import Log
from features.settings import Settings
from loadgen.check import Report, check
from loadgen.latency import Latency
from loadgen.mischief import DUPLICATE, Mischief, expected
from loadgen.reader import Answers
from loadgen.rehearsal import (
    Failed,
    Steps,
    bytes_per_account,
    environment_of,
    launch_explainer,
    out,
    run_command,
    run_live,
    say,
    start_worker,
    versions,
    wait_for,
    wait_until_explained,
    wait_until_settled,
)
from loadgen.simulate import Past, World, simulate, world_ending
from loadgen.stream import Sent, Stream
from loadgen.target import Target
from schemas.topics import DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic

FOLDER = Path(".local/demo")
BUNDLES = Path(".local/bundles")
ARCHIVE = FOLDER / "archive"
PER_DAY = 24_000
HISTORY_DAYS = 28
MISCHIEF = Mischief(malformed=0.002, duplicates=0.002, seed=11)
KEPT_UP_WITHIN_MS = 1_000.0
"""The worker kept up if its last verdict was no later than this, and the sender if 99 % of its messages weren't."""

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)


class DemoReport(msgspec.Struct, kw_only=True):
    """`.local/demo/report.json`."""

    sent: int
    """Transactions that were due one verdict each."""
    verdicts: int
    alerts: int
    explained_afterwards: int
    """Alerts that went out before their reasons."""
    without_reasons: int
    """Alerts that never got any."""
    dead_lettered: dict[str, int]
    dead_letters_planned: dict[str, int]
    duplicates_sent: int
    lost: int
    doubled: int
    contradicting: int
    profiles_compared: int
    profiles_different: int
    vectors_compared: int
    vectors_compared_in_full: int
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
    archived: dict[str, int]
    """Rows of the archive's tables."""
    model: dict[str, float]
    bundle: str
    seconds: dict[str, float]
    versions: dict[str, str]

    @property
    def well(self) -> bool:
        """What the demo promises."""
        return not (
            self.lost or self.doubled or self.contradicting or self.profiles_different
            or self.without_reasons or self.verdicts != self.sent or self.dead_lettered != self.dead_letters_planned
        )  # fmt: skip


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
        say(f"a demo is running already, as process {running.pid}: wait for it, or end it (kill {running.pid})")
        status = 2
    except (Failed, FailedToStart) as failed:
        say(f"the demo failed: {failed}")
        status = 1
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        status = 130
    sys.exit(status)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _demo(count: int, rate: float, seed: int, accounts: int, as_json: bool) -> int:
    steps = Steps()
    stack = LocalStack(FOLDER / "stack", fresh=True)
    try:
        with steps.step("starting Kafka and Redis"):  # first: it claims the folder
            stack.start()
            stack.create_topics()
            say(f"  Kafka at {stack.kafka_url}, Redis at {stack.redis_url}")
        settings = Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url)
        with steps.step("simulating a world"):
            past, live = _world(count, seed, accounts)
            say(
                f"  {accounts:,} accounts; {past.transactions.height:,} transactions of history, "
                f"{live.transactions.height:,} to come, {live.truth['is_fraud'].sum():,} of them frauds"
            )
        with steps.step("training a model, and loading the history meanwhile"):
            _train_and_load(stack, settings)
        with steps.step("starting a worker"):
            worker = start_worker(stack, settings, FOLDER, BUNDLES / "current")
            explainer = launch_explainer(stack, settings, FOLDER, BUNDLES / "current")
        stream = Stream(live.transactions, live.labels, rate=rate, mischief=MISCHIEF)
        frauds = frozenset(live.truth.filter("is_fraud")["transaction_id"].to_list())
        with steps.step(f"sending {count:,} transactions at {rate:,.0f} a second"):
            sent, answers = run_live(stream, frauds, Target(url=stack.kafka_url), worker)
        with steps.step("checking every verdict against the log"):
            wait_until_settled(settings)
            wait_until_explained(settings, explainer)
            found = check(settings, bundles=BUNDLES)
        with steps.step("archiving the topics"):
            archived = _archive(stack, settings, found)
        report = _report(stream, sent, answers, found, archived, len(frauds), settings, steps)
    finally:
        stack.stop()
    _write(report)
    _summary(report, found)
    if as_json:
        print(msgspec.json.encode(report).decode())
    return 0 if report.well else 1


def _model_only(count: int, seed: int, accounts: int) -> int:
    with LocalStack(FOLDER / "stack", kafka=False, redis=False) as stack:
        say("simulating a world")
        _world(count, seed, accounts)
        say("training a model")
        training = run_command(stack, FOLDER, "training", "run", str(FOLDER / "history"), "--out", str(BUNDLES))
        wait_for([training])
    say(f"the bundle is {BUNDLES / 'current'}")
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


def _train_and_load(stack: LocalStack, settings: Settings) -> None:
    history = str(FOLDER / "history")
    training = run_command(stack, FOLDER, "training", "run", history, "--out", str(BUNDLES))
    loading = run_command(stack, FOLDER, "features", "load", history, **environment_of(settings))
    wait_for([training, loading])
    manifest = json.loads((BUNDLES / "current" / "bundle.json").read_text())
    metrics = manifest["metrics"]
    shown = ", ".join(
        f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in ("auc", "average_precision") if name in metrics
    )
    say(f"  the model on later transactions: {shown}")


def _archive(stack: LocalStack, settings: Settings, found: Report) -> dict[str, int]:
    """Into tables that begin anew, as the topics did; their rows by topic.  Raises Failed where the log has others."""
    shutil.rmtree(ARCHIVE, ignore_errors=True)
    archiver = run_command(
        stack, FOLDER, "training", "archive", "--until-end", name="archive", FRAUD_ARCHIVE=str(ARCHIVE),
        **environment_of(settings),
    )  # fmt: skip
    wait_for([archiver])
    rows = {topic.name: _rows(topic) for topic in ARCHIVED}
    with Log(settings) as log:
        # Their producers use no transactions: each offset is a message.
        due = {
            topic.name: sum(high - low for low, high in (log.bounds(topic, n) for n in range(settings.partitions)))
            for topic in (TRANSACTIONS, LABELS)
        }
    due |= {VERDICTS.name: found.verdicts, DEAD_LETTERS.name: sum(found.dead_lettered.values())}
    if wrong := {name: (rows[name], count) for name, count in due.items() if rows[name] != count}:
        raise Failed(f"the archive has other rows than the log (rows, messages): {wrong}")
    say(f"  {sum(rows.values()):,} rows in {ARCHIVE}, as many as the log has messages")
    return rows


def _rows(topic: Topic) -> int:
    table = Table.at(Place.of(str(ARCHIVE)), topic.name)
    return 0 if table is None else table.count()


def _report(
    stream: Stream,
    sent: Sent,
    answers: Answers,
    found: Report,
    archived: dict[str, int],
    frauds: int,
    settings: Settings,
    steps: Steps,
) -> DemoReport:
    planned = expected(stream.planted)
    duplicates = planned.pop(DUPLICATE, 0)
    manifest = json.loads((BUNDLES / "current" / "bundle.json").read_text())
    last = stream.duration() + KEPT_UP_WITHIN_MS / 1e3
    return DemoReport(
        sent=sent.transactions,
        verdicts=found.verdicts,
        alerts=found.alerts,
        explained_afterwards=found.explanations,
        without_reasons=found.awaited,
        dead_lettered=dict(sorted(found.dead_lettered.items())),
        dead_letters_planned=dict(sorted(planned.items())),
        duplicates_sent=duplicates,
        lost=found.lost + answers.awaited + sum(sent.failed.values()),
        doubled=found.doubled,
        contradicting=found.contradicting,
        profiles_compared=found.profiles_compared,
        profiles_different=found.profiles_different,
        vectors_compared=found.vectors_compared,
        vectors_compared_in_full=found.vectors_compared_in_full,
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
        redis_bytes_per_account=bytes_per_account(settings),
        archived=archived,
        model=manifest["metrics"],
        bundle=(BUNDLES / "current").resolve().name,
        seconds=steps.seconds,
        versions=versions(settings),
    )


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
        ("reasons", f"{report.explained_afterwards:,} followed their alert, {report.without_reasons:,} are missing"),
        ("due to verdict", ", ".join(f"{name} {ms:.1f}" for name, ms in named.items()) + " ms"),
        ("vectors computed again", f"{report.vectors_compared_in_full:,}, {found.vectors_different:,} different"),
        ("profiles folded again", f"{report.profiles_compared:,}, {report.profiles_different} different"),
        ("archived", f"{sum(report.archived.values()):,} rows in {ARCHIVE}"),
        ("Redis", f"{report.redis_bytes_per_account:,} bytes an account"),
    ]  # fmt: skip
    table = Lines("", "", show_header=False, box=None, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    out.print()
    out.print(table)
    for example in found.examples:
        say(f"  {example}")
    out.print()
    say(
        f"{'All is well.' if report.well else 'Something is wrong: see above.'} The report is {FOLDER / 'report.json'},"
    )
    say(f"how good the model is says {BUNDLES / 'current' / 'evaluation.html'}.")
    say("What next: `make up` leaves all of it running, for your own transactions; README.md says how to send one.")
