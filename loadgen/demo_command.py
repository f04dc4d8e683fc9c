"""`loadgen demo`: what it takes, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    transactions: Annotated[int, typer.Option(min=1_000, help="Live transactions.")] = 240_000,
    rate: Annotated[float, typer.Option(min=1, help="How many of them a second.")] = 2_000.0,
    seed: Annotated[int, typer.Option(min=0, help="One seed, one world.")] = 7,
    accounts: Annotated[int, typer.Option(min=100, help="How many accounts pay.")] = 8_000,
    model_only: Annotated[
        bool, typer.Option(help="Simulate and train, and leave the bundle in .local/demo/bundles.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON at the end.")] = False,
) -> None:
    """The main job: simulate, train, load, score live transactions on a real Kafka and a real Redis, sum up.

    A machine that can't hold the rate is given a lower one, which is said; `kept_up` is false then. Settings of yours
    (FRAUD_…) are not asked: the demo is an installation of its own, in .local/demo.

    Exit status 1 if anything was lost, doubled or contradicting. Ctrl-C leaves no process and no port behind.

    Example: loadgen demo --transactions 60000 --rate 1000
    """
    from deploy.local.children import AlreadyRunning, FailedToStart
    from loadgen.demo import perform_all, train_only
    from loadgen.rehearsal import Failed, say

    # SIGTERM is as Ctrl-C, also where a script's background ignores that: everything that was started is ended.
    for asking in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asking, _interrupt)
    for name in [name for name in os.environ if name.startswith("FRAUD_")]:
        del os.environ[name]
    try:
        status = (
            train_only(transactions, seed, accounts)
            if model_only
            else perform_all(transactions, rate, seed, accounts, as_json=as_json)
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
