"""How fast is a past described?  Transactions a second of CPU time through the kernel, the whole catalogue.

python -m benchmarks.replay --runs 5
python -m benchmarks.replay ../shared/data/handbook/transactions.parquet --mapping handbook
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import polars as pl
import typer

from benchmarks.scene import past_of, write
from features import kernel
from loadgen.rehearsal import say
from schemas.mapping import load_mapping, read_past
from training.replay import vectors

WALKS = {"accounts": "walk_accounts", "counterparties": "walk_counterparties"}
"""Of the kernel."""


def main(
    past: Annotated[
        Path | None, typer.Argument(help="A file or a folder of one's own; else a world is simulated.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="What its columns are.")] = None,
    transactions: Annotated[int, typer.Option(min=10_000)] = 1_000_000,
    accounts: Annotated[int, typer.Option(min=100)] = 8_000,
    runs: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Describe the same past again and again; the first time, which compiles, doesn't count."""
    if past is None:
        simulated = past_of(transactions, accounts=accounts)
        paid, labels = simulated.transactions, simulated.labels
    else:
        paid, labels = read_past(past, None if mapping is None else load_mapping(mapping))
    vectors(paid[:1_000], labels[:1_000])
    rows = [_once(paid, labels) for _ in range(runs)]
    for number, row in enumerate(rows, 1):
        say(f"  run {number}: {row['rate']:,.0f} transactions a second of CPU time; microseconds each: {_shares(row)}")
    rates = [row["rate"] for row in rows]
    say(f"best {max(rates):,.0f}, median {statistics.median(rates):,.0f} transactions a second on one core")
    own = statistics.median(row["rate_but_for_the_system"] for row in rows)
    say(f"  {own:,.0f} without what the system takes to hand out memory, which on a virtual machine may be anything")
    best = {name: max(row[f"{name}_rate"] for row in rows) for name in WALKS}
    say("the kernel alone: " + ", ".join(f"{name} {rate:,.0f} a second" for name, rate in best.items()))
    path = write(
        "replay-speed",
        {
            "transactions": paid.height,
            "best": max(rates),
            "median": statistics.median(rates),
            "median_but_for_the_system": own,
            "kernel": best,
            "runs": rows,
        },
    )
    say(f"the report is {path}")


def _once(transactions: pl.DataFrame, labels: pl.DataFrame) -> dict[str, float]:
    """Rates a second of CPU time, and microseconds of it for each transaction."""
    spent = dict.fromkeys(WALKS, 0.0)
    with _timed(spent):
        before, began, clock = os.times(), time.process_time(), time.perf_counter()
        vectors(transactions, labels)
        whole, seconds = time.process_time() - began, time.perf_counter() - clock
    count, system = len(transactions), os.times().system - before.system
    each = {name: 1e6 * of / count for name, of in spent.items()} | {
        "rest": 1e6 * (whole - sum(spent.values())) / count
    }
    return {
        "rate": count / whole,
        "rate_by_the_clock": count / seconds,
        "rate_but_for_the_system": count / (whole - system),
        **{f"{name}_rate": count / of for name, of in spent.items()},
        **{f"{name}_us": round(of, 3) for name, of in each.items()},
        "system_us": round(1e6 * system / count, 3),
    }


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Adds the CPU seconds of the kernel's walks, which are called a block at a time."""

    def timed(name: str, walk: Callable[..., None]) -> Callable[..., None]:
        def walked(*arguments: Any) -> None:
            began = time.process_time()
            walk(*arguments)
            spent[name] += time.process_time() - began

        return walked

    with (
        mock.patch.object(kernel, WALKS["accounts"], timed("accounts", kernel.walk_accounts)),
        mock.patch.object(kernel, WALKS["counterparties"], timed("counterparties", kernel.walk_counterparties)),
    ):
        yield


def _shares(row: dict[str, float]) -> str:
    parts = ", ".join(f"{name} {row[f'{name}_us']:.2f}" for name in (*WALKS, "rest"))
    return f"{parts}, of which the system's {row['system_us']:.2f}"


if __name__ == "__main__":
    typer.run(main)
