"""`make demo`: the main job from nothing, on a real Kafka and a real Redis, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import polars as pl

from deploy.local.children import Child, unhurried
from deploy.local.id_key import id_key
from deploy.local.stack import LocalStack
from features.settings import Settings
from loadgen.archiving import launch_archiver, wait_until_archived
from loadgen.check import check
from loadgen.demo_report import report_of, show, write
from loadgen.holding import Enough, perform
from loadgen.mischief import Mischief
from loadgen.reader import Answers
from loadgen.rehearsal import (
    PATIENT,
    Failed,
    Sending,
    Steps,
    environment_of,
    following,
    launch_explainer,
    run_command,
    say,
    start_worker,
    wait_for,
    wait_until_explained,
    wait_until_settled,
)
from loadgen.retraining import LEGS, QUICKLY, TRANSACTIONS, Retraining
from loadgen.simulate import Past, World, simulate, world_ending
from loadgen.stream import Sent, Stream
from loadgen.target import Target

FOLDER = Path(".local/demo")
BUNDLES = FOLDER / "bundles"
MLFLOW = FOLDER / "mlflow"
"""Its own, as all it has: `make up` and whatever is installed beside keep theirs."""
ARCHIVE = FOLDER / "archive"
HISTORY = FOLDER / "history"
PER_DAY = 24_000
HISTORY_DAYS = 28
SENDING_WITHIN = 900.0
"""Seconds: a machine that can't hold the rate sends what it can in that time."""
MISCHIEF = Mischief(malformed=0.002, duplicates=0.002, seed=11)


def perform_all(count: int, rate: float, seed: int, accounts: int, *, as_json: bool) -> int:
    """The whole demo; the exit status.  Raises Failed, FailedToStart, AlreadyRunning."""
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
        settings = Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url, id_key=id_key())
        with steps.step("training a model, and loading the history meanwhile"):
            training = _train_and_load(stack, settings)
        stream = Stream(live.transactions, live.labels, rate=rate, mischief=MISCHIEF)
        frauds = frozenset(live.truth.filter("is_fraud")["transaction_id"].to_list())
        with Sending(stream, frauds, Target(url=stack.kafka_url)) as first:  # it prepares itself meanwhile
            with steps.step("starting a worker, while MLflow is told of the model"):
                worker = start_worker(stack, settings, FOLDER, BUNDLES / "current", other=PATIENT | _mlflow())
                wait_for([training])
                explainer = launch_explainer(stack, settings, FOLDER, BUNDLES / "current")
                archiver = launch_archiver(stack, settings, FOLDER, ARCHIVE)
            with steps.step(f"sending {count:,} transactions at {rate:,.0f} a second, and archiving them"):

                def send(part: Stream, enough: Enough) -> tuple[Sent, Answers]:
                    if part is stream:
                        return first.run(worker, enough=enough)
                    with Sending(part, frauds, Target(url=stack.kafka_url)) as sending:
                        return sending.run(worker, enough=enough)

                performed = perform(
                    stream, rate, send, within=SENDING_WITHIN, clock=time.monotonic, say=lambda text: say(f"  {text}")
                )
        with steps.step(f"learning from the archive, with {LEGS[0][0]:,.0f} a second going on, and swapping the model"):
            swap = Retraining(stack, settings, FOLDER, BUNDLES, ARCHIVE, archiver, _mlflow()).run(later, worker)
        with steps.step("checking every verdict against the log"):
            wait_until_settled(settings)
            wait_until_explained(settings, explainer)
            found = check(settings, bundles=BUNDLES)
        with steps.step("waiting for the archive to hold every message"):
            archived = wait_until_archived(archiver, settings, found, ARCHIVE)
        frauds_sent = int(live.truth["is_fraud"][: performed.sent.transactions].sum())
        report = report_of(
            stream, performed, found, archived, swap, frauds_sent, BUNDLES / swap.before, settings, steps.seconds
        )
    finally:
        with unhurried():
            stack.stop()
    written = write(report, FOLDER)
    show(report, found, archive=ARCHIVE)
    say(f"{'All is well.' if report.well else 'Something is wrong: see above.'} The report is {written},")
    say(f"how good the model is says {BUNDLES / 'current' / 'evaluation.html'}.")
    say("What next: `make mine TABLE=payments.csv` learns from a table of yours, and leaves all of it running.")
    if as_json:
        print(msgspec.json.encode(report).decode())
    return 0 if report.well else 1


def train_only(count: int, seed: int, accounts: int) -> int:
    """Simulates and trains, and leaves the bundle; the exit status.  Raises as `perform_all`."""
    with LocalStack(FOLDER / "stack", kafka=False, redis=False) as stack:
        say("simulating a world")
        _world(count, seed, accounts)
        _forget_models()
        say("training a model on it")
        training = _training(stack)
        with following(training.log):
            wait_for([training])
    say(f"the bundle is {BUNDLES / 'current'}")
    return 0


def _world(count: int, seed: int, accounts: int) -> tuple[Past, Past, Past]:
    """A past, written to `.local/demo/history`, and two parts after it that are sent live, the second beside the retraining.

    The live parts' time is compressed: so many days go by in two minutes that windows move and labels arrive.  They end
    now, so that nothing is from the future.
    """
    sent = count + TRANSACTIONS
    live_days = sent / PER_DAY
    world: World = world_ending(
        datetime.now(UTC), HISTORY_DAYS + 1.2 * live_days, seed=seed, accounts=accounts, per_day=PER_DAY
    )
    whole = simulate(world)
    if whole.transactions.height <= 2 * sent:
        raise Failed(f"the world has only {whole.transactions.height:,} transactions: ask for fewer live ones")
    history, live, later = _parts(whole, [-sent, -TRANSACTIONS])
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


def _mlflow() -> dict[str, str]:
    return {
        "FRAUD_MLFLOW_URI": f"sqlite:///{MLFLOW / 'mlflow.db'}",
        "FRAUD_MLFLOW_PENDING": str(MLFLOW / "pending"),
    }


def _training(stack: LocalStack) -> Child:
    own = ("training", "run", str(HISTORY), "--out", str(BUNDLES), *QUICKLY)
    return run_command(stack, FOLDER, *own, FRAUD_ID_KEY=id_key(), **_mlflow())


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
