"""How long does a transaction wait for its verdict at a steady rate?  Open loop, from the due time, read committed.

python -m benchmarks.open_loop --rate 2000 --runs 5
"""

from __future__ import annotations

import statistics
from typing import Annotated, Any

import msgspec
import typer

from benchmarks.scene import FOLDER, Cpu, bundle_of, fresh_stack, past_of, write
from loadgen.rehearsal import run_live, say, start_worker
from loadgen.stream import Stream
from loadgen.target import Target
from schemas.tables import part_of


def main(
    rate: Annotated[float, typer.Option(min=1)] = 2_000.0,
    seconds: Annotated[float, typer.Option(min=1)] = 30.0,
    warm_up: Annotated[
        float, typer.Option(min=0, help="Seconds before the measured ones: a JVM compiles as it goes.")
    ] = 30.0,
    runs: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Send at a rate, and read what comes back."""
    bundle, past = bundle_of(), past_of(round(rate * (warm_up + seconds)))
    warm = round(rate * warm_up)
    rows: list[dict[str, Any]] = []
    for number in range(runs):
        with fresh_stack("open-loop") as (stack, settings):
            worker = start_worker(stack, settings, FOLDER, bundle)
            target = Target(url=stack.kafka_url)
            if warm:
                run_live(Stream(past.transactions[:warm], past.labels[:0], rate=rate), frozenset(), target, worker)
            cpu = Cpu({"kafka": stack.kafka_pid, "redis": stack.redis_pid, "worker": worker.pid})
            begin = past.transactions["occurred_at"][warm]
            stream = Stream(*part_of(past.transactions[warm:], past.labels, since=begin), rate=rate)
            sent, answers = run_live(stream, frozenset(), target, worker)
            used = cpu.used()
        row = {
            "latency_ms": msgspec.to_builtins(answers.total),
            "sender_lateness_ms": msgspec.to_builtins(sent.lateness),
            "awaited": answers.awaited,
            "rate": round(sent.rate),
            "cpu": used,
        }
        rows.append(row)
        ms = answers.total
        told = f"p50 {ms.p50:.1f}, p99 {ms.p99:.1f}, p99.9 {ms.p99_9:.1f} ms; sender p99 {sent.lateness.p99:.1f} ms"
        say(f"  run {number + 1}: {told}; {used}")
    medians = {
        name: statistics.median(row["latency_ms"][name] for row in rows)
        for name in ("p50", "p90", "p99", "p99_9", "max")
    }
    say(
        f"medians of {runs} at {rate:,.0f} a second: "
        + ", ".join(f"{name} {ms:.1f}" for name, ms in medians.items())
        + " ms"
    )
    say(f"the report is {write('open-loop', {'rate': rate, 'medians_ms': medians, 'runs': rows})}")


if __name__ == "__main__":
    typer.run(main)
