"""What do alerts and their reasons cost a worker?  CPU a transaction on a full topic, where none, 2 % and 50 % are flagged.

The last with reasons and without, for an attack's alerts are also messages.

python -m benchmarks.reasons --runs 3
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.drain import fill, watch
from benchmarks.scene import FOLDER, Cpu, bundle_of, fresh_stack, past_of, write
from features.log import Log
from loadgen.rehearsal import launch_worker, say, wait_until_settled
from loadgen.simulate import Past
from loadgen.target import Target
from schemas.topics import ALERTS, VERDICTS, Topic
from schemas.verdict import decode_alert, decode_verdict
from streaming.settings import WorkerSettings

OWN = WorkerSettings().reasons_share
CASES = {
    "none flagged": (0.0, OWN),
    "2 % flagged": (0.02, OWN),
    "50 % flagged": (0.5, OWN),
    "50 % flagged, none explained": (0.5, 0.0),
}
"""Share of transactions that are flagged, and of the time that reasons may take."""


def main(
    transactions: Annotated[int, typer.Option(min=10_000)] = 100_000,
    runs: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """One worker drains the same topic once for each case, in turn, so that a noisy neighbour is everybody's."""
    bundle, past = bundle_of(), past_of(transactions)
    say("finding the thresholds")
    _, scores = one_run(bundle, past, threshold=1.0, reasons=0.0)
    rows: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for number in range(runs):
        turn = number % len(CASES)
        for case in [*CASES][turn:] + [*CASES][:turn]:
            flagged, reasons = CASES[case]
            threshold = float(np.quantile(scores, 1 - flagged)) if flagged else 1.0
            row, _ = one_run(bundle, past, threshold=threshold, reasons=reasons)
            rows[case].append(row)
            say(f"  run {number + 1}, {case}: {row}")
    told = {case: summed_up(rows[case], rows["none flagged"]) for case in CASES}
    for case, what in told.items():
        say(f"{case}: {what}")
    say(f"the report is {write('reasons', {'transactions': transactions, 'medians': told, 'runs': rows})}")


def one_run(bundle: Path, past: Past, *, threshold: float, reasons: float) -> tuple[dict[str, float], list[float]]:
    """What the worker took from the first committed verdict to the last, and all scores."""
    count = past.transactions.height
    with fresh_stack("reasons") as (stack, settings):
        fill(Target(url=stack.kafka_url), past.transactions, past.labels)
        own = {"FRAUD_REVIEW": repr(threshold), "FRAUD_DECLINE": "1.0", "FRAUD_REASONS_SHARE": repr(reasons)}
        worker, _ = launch_worker(stack, settings, FOLDER, bundle, other=own)
        cpu: list[Cpu] = []
        first, last, seen = watch(settings, count, begun=lambda: cpu.append(Cpu({"worker": worker.pid})))
        used = cpu[0].used()
        wait_until_settled(settings)
        with Log(settings) as log:
            scores = [decode_verdict(value).score for value in values(log, VERDICTS)]
            pending = [decode_alert(value).reasons == "pending" for value in values(log, ALERTS)]
    timed = seen - first[1]
    return {
        "cpu_us": round(used["worker"] / timed * 1e6, 1),
        "rate": round(timed / (last - first[0])),
        "alerts": round(len(pending) / count, 4),
        "pending": round(sum(pending) / max(len(pending), 1), 3),
    }, scores


def values(log: Log, topic: Topic) -> Iterator[bytes | None]:
    """All messages of a topic."""
    for number in range(log.settings.partitions):
        for records in log.read(topic, number, *log.bounds(topic, number)):
            yield from (record.value for record in records)


def summed_up(runs: list[dict[str, float]], without: list[dict[str, float]]) -> dict[str, float]:
    """Medians, and what they are to a worker's without alerts."""
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    base = {name: statistics.median(run[name] for run in without) for name in ("cpu_us", "rate")}
    return middle | {f"{name}_ratio": round(middle[name] / base[name], 3) for name in base}


if __name__ == "__main__":
    typer.run(main)
