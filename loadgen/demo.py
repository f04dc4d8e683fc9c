"""`make demo`: the main job from nothing, on a real Kafka and a real Redis, and what came of it."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl
import typer

from deploy.local.children import AlreadyRunning, Child, FailedToStart
from deploy.local.stack import LocalStack
from features.settings import Settings
from loadgen.archiving import launch_archiver, wait_until_archived
from loadgen.check import check
from loadgen.demo_report import report_of, show, write
from loadgen.mischief import Mischief
from loadgen.rehearsal import (
    Failed,
    Sending,
    Steps,
    environment_of,
    launch_explainer,
    run_command,
    say,
    start_worker,
    wait_for,
    wait_until_explained,
    wait_until_settled,
)
from loadgen.retraining import QUICKLY, Retraining
from loadgen.simulate import Past, World, simulate, world_ending
from loadgen.stream import Stream
from loadgen.target import Target

FOLDER = Path(".local/demo")
BUNDLES = Path(".local/bundles")
ARCHIVE = FOLDER / "archive"
HISTORY = FOLDER / "history"
PER_DAY = 24_000
HISTORY_DAYS = 28
RETRAINING_RATE = 500.0
RETRAINING = 75_000
"""Transactions at the most that go on while another model is learnt."""
MISCHIEF = Mischief(malformed=0.002, duplicates=0.002, seed=11)

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)


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
        with steps.step("starting Kafka and Redis, and simulating a world meanwhile"):
            stack.launch()  # first: it claims the folder
            past, live, later = _world(count, seed, accounts)
            say(
                f"  {accounts:,} accounts; {past.transactions.height:,} transactions of history, "
                f"{live.transactions.height:,} to come, {live.truth['is_fraud'].sum():,} of them frauds"
            )
            stack.wait_until_ready()
            stack.create_topics()
            say(f"  Kafka at {stack.kafka_url}, Redis at {stack.redis_url}")
        settings = Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url)
        with steps.step("training a model, and loading the history meanwhile"):
            training = _train_and_load(stack, settings)
        stream = Stream(live.transactions, live.labels, rate=rate, mischief=MISCHIEF)
        frauds = frozenset(live.truth.filter("is_fraud")["transaction_id"].to_list())
        with Sending(stream, frauds, Target(url=stack.kafka_url)) as sending:
            with steps.step("starting a worker, while MLflow is told of the model"):
                worker = start_worker(stack, settings, FOLDER, BUNDLES / "current")
                wait_for([training])
                explainer = launch_explainer(stack, settings, FOLDER, BUNDLES / "current")
                archiver = launch_archiver(stack, settings, FOLDER, ARCHIVE)
            with steps.step(f"sending {count:,} transactions at {rate:,.0f} a second, and archiving them"):
                sent, answers = sending.run(worker)
        with steps.step(
            f"learning from the archive, with {RETRAINING_RATE:,.0f} a second going on, and swapping the model"
        ):
            again = Stream(later.transactions, later.labels, rate=RETRAINING_RATE)
            swap = Retraining(stack, settings, FOLDER, BUNDLES, ARCHIVE, archiver).run(again, worker)
        with steps.step("checking every verdict against the log"):
            wait_until_settled(settings)
            wait_until_explained(settings, explainer)
            found = check(settings, bundles=BUNDLES)
        with steps.step("waiting for the archive to hold every message"):
            archived = wait_until_archived(archiver, settings, found, ARCHIVE)
        report = report_of(
            stream, sent, answers, found, archived, swap, len(frauds), BUNDLES / swap.before, settings, steps.seconds
        )
    finally:
        stack.stop()
    written = write(report, FOLDER)
    show(report, found, archive=ARCHIVE)
    say(f"{'All is well.' if report.well else 'Something is wrong: see above.'} The report is {written},")
    say(f"how good the model is says {BUNDLES / 'current' / 'evaluation.html'}.")
    say("What next: `make up` leaves all of it running, for your own transactions; README.md says how to send one.")
    if as_json:
        print(msgspec.json.encode(report).decode())
    return 0 if report.well else 1


def _model_only(count: int, seed: int, accounts: int) -> int:
    with LocalStack(FOLDER / "stack", kafka=False, redis=False) as stack:
        say("simulating a world")
        _world(count, seed, accounts)
        _forget_models()
        say("training a model")
        wait_for([_training(stack)])
    say(f"the bundle is {BUNDLES / 'current'}")
    return 0


def _world(count: int, seed: int, accounts: int) -> tuple[Past, Past, Past]:
    """A past, written to `.local/demo/history`, and two parts after it that are sent live, the second of RETRAINING.

    The live parts' time is compressed: so many days go by in two minutes that windows move and labels arrive.  They end
    now, so that nothing is from the future.
    """
    sent = count + RETRAINING
    live_days = sent / PER_DAY
    world: World = world_ending(
        datetime.now(UTC), HISTORY_DAYS + 1.2 * live_days, seed=seed, accounts=accounts, per_day=PER_DAY
    )
    whole = simulate(world)
    if whole.transactions.height <= 2 * sent:
        raise Failed(f"the world has only {whole.transactions.height:,} transactions: ask for fewer live ones")
    history, live, later = _parts(whole, [-sent, -RETRAINING])
    HISTORY.mkdir(parents=True, exist_ok=True)
    history.transactions.write_parquet(HISTORY / "transactions.parquet")
    history.labels.write_parquet(HISTORY / "labels.parquet")
    return history, live, later


def _parts(whole: Past, begins: list[int]) -> Iterator[Past]:
    """What is before, between and after these transactions; a label goes with what occurs when it becomes known."""
    edges = [0, *(whole.transactions.height + begin for begin in begins), whole.transactions.height]
    times = [whole.transactions["occurred_at"][edge] for edge in edges[1:-1]]
    known = pl.col("known_at")
    for i, (begin, end) in enumerate(pairwise(edges)):
        since = known >= times[i - 1] if i else pl.lit(value=True)
        until = known < times[i] if i < len(times) else pl.lit(value=True)
        yield Past(
            transactions=whole.transactions[begin:end],
            labels=whole.labels.filter(since & until),
            truth=whole.truth[begin:end],
        )


def _forget_models() -> None:
    """A new world has no champion yet: the former one's model would stay in its place."""
    (BUNDLES / "current").unlink(missing_ok=True)


def _training(stack: LocalStack) -> Child:
    return run_command(stack, FOLDER, "training", "run", str(HISTORY), "--out", str(BUNDLES), *QUICKLY)


def _train_and_load(stack: LocalStack, settings: Settings) -> Child:
    """The training, which may still be telling MLflow of its model when that is the current one."""
    _forget_models()
    training = _training(stack)
    loading = run_command(stack, FOLDER, "features", "load", str(HISTORY), **environment_of(settings))
    wait_for([loading])
    while not (BUNDLES / "current").exists():
        if not training.running:
            wait_for([training])
        time.sleep(0.1)
    manifest = json.loads((BUNDLES / "current" / "bundle.json").read_text())
    metrics = manifest["metrics"]
    shown = ", ".join(
        f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in ("auc", "average_precision") if name in metrics
    )
    say(f"  the model on later transactions: {shown}")
    return training
