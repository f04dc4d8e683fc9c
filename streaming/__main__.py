"""`python -m streaming`: the worker, the explainer, and their settings."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer
from rich.table import Table

from features.people import console
from features.settings import explain as lines_of
from features.settings import load
from schemas import masking
from schemas.errors import WrongSettings
from streaming.settings import WorkerSettings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Scores a stream of transactions for fraud.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


@app.command()
def worker(json_log: Annotated[bool, typer.Option("--json", help="A log line is a JSON object.")] = False) -> None:
    """Run a worker until SIGTERM or Ctrl-C; it finishes the batch in hand and leaves within ten seconds.

    Example: FRAUD_SLOT=1 FRAUD_KAFKA_URL=kafka:9092 FRAUD_REDIS_URL=redis://redis:6379/0 python -m streaming worker
    """
    settings = load(WorkerSettings, os.environ)
    from streaming.worker import run

    run(settings, json_log=json_log)


@app.command()
def explain(json_log: Annotated[bool, typer.Option("--json", help="A log line is a JSON object.")] = False) -> None:
    """Run an explainer until SIGTERM or Ctrl-C: it completes the alerts whose reasons are pending, each once.

    It has the workers' settings, and finds the bundles that alerts name beside FRAUD_BUNDLE.

    Example: FRAUD_KAFKA_URL=kafka:9092 python -m streaming explain
    """
    settings = load(WorkerSettings, os.environ)
    from streaming.explaining import run

    run(settings, json_log=json_log)


@app.command()
def settings(as_json: JsonOption = False) -> None:
    """Every setting: its value, where it comes from, its default and what it means.

    Example: FRAUD_SLOT=1 python -m streaming settings
    """
    lines = lines_of(WorkerSettings, os.environ)
    if as_json:
        print(json.dumps([line._asdict() for line in lines], indent=1))
        return
    table = Table("setting", "value", "from", "default", "meaning")
    for line in lines:
        table.add_row(line.name, line.value, line.source, line.default, line.meaning)
    console().print(table)


def main() -> None:
    """The console script."""
    masking.guard_traces()
    try:
        app()
    except WrongSettings as error:
        print(f"wrong settings: {masking.text(str(error))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
