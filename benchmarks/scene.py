"""What the benchmarks run on: a simulated past, and a model of exactly 300 trees of 63 leaves."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import psutil

# Read when LightGBM loads its OpenMP: see training/__main__.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from deploy.local.id_key import id_key
from deploy.local.stack import LocalStack
from features.catalogue import DIGEST
from features.settings import Settings
from loadgen.rehearsal import say
from loadgen.simulate import Past, simulate, world_ending
from training.job import train
from training.settings import TrainingSettings

FOLDER = Path(".local/bench")
TREES, LEAVES = 300, 63


def past_of(transactions: int, *, accounts: int = 5_000, per_day: int = 24_000) -> Past:
    """The last so many transactions of a world that ends now."""
    days = 1.3 * transactions / per_day + 1
    past = simulate(world_ending(datetime.now(UTC), days, seed=5, accounts=accounts, per_day=per_day))
    if past.transactions.height < transactions:
        raise ValueError(f"the world has only {past.transactions.height:,} transactions")
    ids = past.transactions["transaction_id"][-transactions:]
    since = past.transactions["occurred_at"][-transactions]
    return Past(
        transactions=past.transactions[-transactions:],
        labels=past.labels.filter(pl.col("known_at") >= since),
        truth=past.truth.filter(pl.col("transaction_id").is_in(ids.implode())),
    )


def bundle_of(trees: int = TREES, leaves: int = LEAVES) -> Path:
    """A bundle with all of its trees, learnt from a world of its own; made once."""
    out = FOLDER / f"bundles-{trees}-{leaves}-{DIGEST}"
    current = out / "current"
    if not current.exists():
        say(f"training the model of {trees} trees with {leaves} leaves (once)")
        world = simulate(world_ending(datetime.now(UTC), 35, seed=6, accounts=4_000, per_day=8_000))
        # No end before the last tree: what is measured is a graph of this size.
        settings = TrainingSettings(
            out=out, trees=trees, leaves=leaves, learning_rate=0.05, patience=trees, least_gain=0.0, smallest_leaf=5
        )
        train(world.transactions, world.labels, settings=settings)
    return current


@contextmanager
def fresh_stack(name: str) -> Iterator[tuple[LocalStack, Settings]]:
    """Kafka and Redis with nothing in them."""
    with LocalStack(FOLDER / name, fresh=True) as stack:
        stack.create_topics()
        yield stack, Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url, id_key=id_key())


@dataclass
class Cpu:
    """CPU seconds of processes and of the machine since it was made: what a noisy machine's wall clock doesn't tell."""

    pids: dict[str, int]

    def __post_init__(self) -> None:
        self._before = {name: _seconds(pid) for name, pid in self.pids.items()}
        self._machine = psutil.cpu_times()

    def used(self) -> dict[str, float]:
        """Seconds by name; `idle` and `steal` are the machine's, over all cores."""
        now = psutil.cpu_times()
        used = {name: round(_seconds(pid) - self._before[name], 2) for name, pid in self.pids.items()}
        return used | {
            "idle": round(now.idle - self._machine.idle, 2),
            "steal": round(now.steal - self._machine.steal, 2),
        }


def _seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def write(name: str, report: dict[str, Any]) -> Path:
    """`.local/<name>/report.json`, with what it was measured on."""
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    target = Path(".local") / name / "report.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(report | {"machine": machine}), indent=1) + b"\n")
    return target
