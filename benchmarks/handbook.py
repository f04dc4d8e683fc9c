"""Published transactions that nobody here made, through the running worker: what its alerts are worth, day by day.

    python -m benchmarks.handbook DATA        (a folder with the handbook's transactions.parquet)

Trained on what came before, its frauds known seven days later, as the handbook has it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl
import typer
from rich.table import Table

from benchmarks.oracle import TRANSACTIONS_FILE, require_files
from benchmarks.scene import write
from deploy.local.id_key import id_key
from deploy.local.stack import LocalStack
from features.log import Log
from features.settings import Settings
from loadgen.check import check
from loadgen.check_command import table_of
from loadgen.rehearsal import (
    bytes_per_account,
    environment_of,
    out,
    run_command,
    run_live,
    say,
    start_worker,
    wait_for,
    wait_until_settled,
)
from loadgen.stream import Stream
from loadgen.target import Target
from schemas.bundle import CURRENT
from schemas.mapping import read_past
from schemas.tables import part_of
from schemas.topics import ALERTS
from schemas.verdict import Outcome, decode_alert

FOLDER = Path(".local/handbook")
HISTORY_DAYS = 75
"""Of past, before the live days: the longest window, the delay of the labels, and what the model learns from."""


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the handbook's transactions.parquet.")],
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])] = datetime(2018, 8, 1),
    days: Annotated[int, typer.Option(min=1)] = 14,
    rate: Annotated[float, typer.Option(min=1)] = 2_000.0,
) -> None:
    """Train on the handbook's past, load it, replay the days after it, and print the alerts' worth by day."""
    require_files(data, TRANSACTIONS_FILE)
    begin = since.replace(tzinfo=UTC)
    transactions, labels = read_past(data / TRANSACTIONS_FILE, Path("handbook"))
    past, known = part_of(transactions, labels, since=begin - timedelta(days=HISTORY_DAYS), until=begin)
    live, coming = part_of(transactions, labels, since=begin, until=begin + timedelta(days=days))
    FOLDER.mkdir(parents=True, exist_ok=True)
    history = FOLDER / "history"
    history.mkdir(exist_ok=True)
    past.write_parquet(history / "transactions.parquet")
    known.write_parquet(history / "labels.parquet")
    frauds = frozenset(labels.filter("is_fraud")["transaction_id"].to_list())
    say(f"{past.height:,} transactions of history from {HISTORY_DAYS} days, {live.height:,} live ones of {days} days")
    with LocalStack(FOLDER / "stack", fresh=True) as stack:
        stack.create_topics()
        settings = Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url, id_key=id_key())
        bundles = FOLDER / "bundles"
        (bundles / CURRENT).unlink(missing_ok=True)  # of an earlier run, perhaps with another past
        training = run_command(stack, FOLDER, "training", "run", str(history), "--no-mlflow", "--out", str(bundles))
        loading = run_command(stack, FOLDER, "features", "load", str(history), **environment_of(settings))
        wait_for([training, loading])
        worker = start_worker(stack, settings, FOLDER, bundles / "current")
        _, answers = run_live(Stream(live, coming, rate=rate), frauds, Target(url=stack.kafka_url), worker)
        wait_until_settled(settings)
        by_day = _by_day(_alerts(settings), live, frauds)
        bytes_ = bytes_per_account(settings)
        found = check(settings, bundles=bundles)
    _show(by_day)
    out.print(table_of(found))
    say(f"Redis: {bytes_:,} bytes an account at the median; due to verdict p99 {answers.total.p99:.0f} ms")
    report = {
        "days": by_day.to_dicts(),
        "redis_bytes_per_account": bytes_,
        "check": msgspec.to_builtins(found),
        "latency_ms": msgspec.to_builtins(answers.total),
    }
    say(f"the report is {write('handbook', report)}")
    raise typer.Exit(0 if found.well else 1)


def _alerts(settings: Settings) -> dict[str, Outcome]:
    alerted: dict[str, Outcome] = {}
    with Log(settings) as log:
        for number in range(settings.partitions):
            for records in log.read(ALERTS, number, 0, log.bounds(ALERTS, number)[1]):
                for record in records:
                    verdict = decode_alert(record.value).verdict
                    alerted[verdict.transaction_id] = verdict.outcome
    return alerted


def _by_day(alerted: dict[str, Outcome], live: pl.DataFrame, frauds: frozenset[str]) -> pl.DataFrame:
    told = live.select(
        pl.col("occurred_at").dt.date().alias("day"),
        pl.col("transaction_id").is_in(list(alerted)).alias("alert"),
        pl.col("transaction_id").is_in(list(frauds)).alias("fraud"),
    )
    sums: list[Any] = [
        pl.len().alias("transactions"),
        pl.col("fraud").sum().alias("frauds"),
        pl.col("alert").sum().alias("alerts"),
        (pl.col("alert") & pl.col("fraud")).sum().alias("right"),
    ]
    days = told.group_by(pl.col("day").cast(pl.String)).agg(sums).sort("day")
    whole = told.select(pl.lit("all").alias("day"), *sums)
    return pl.concat([days, whole]).with_columns(
        (pl.col("right") / pl.col("alerts")).round(4).alias("precision"),
        (pl.col("right") / pl.col("frauds")).round(4).alias("recall"),
    )


def _show(by_day: pl.DataFrame) -> None:
    table = Table(*by_day.columns, box=None)
    for row in by_day.iter_rows():
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else f"{value}" for value in row))
    out.print(table)


if __name__ == "__main__":
    typer.run(main)
