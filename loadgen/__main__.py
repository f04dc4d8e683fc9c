"""`loadgen`: the world outside.  Makes or replays transactions, and checks what came back."""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.people import console
from schemas import masking
from schemas.errors import WrongSettings
from schemas.spans import moment

app = typer.Typer(
    help="The world outside: makes or replays transactions and labels, and checks what came back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_people = console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Report as one line of JSON on standard output.")]


@app.callback()
def loadgen() -> None:
    """The world outside: makes or replays transactions and labels, and checks what came back."""


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write; a past that is there is replaced.")],
    accounts: Annotated[int, typer.Option(help="How many accounts.")] = 8_000,
    counterparties: Annotated[int, typer.Option(help="How many counterparties.")] = 2_000,
    days: Annotated[float, typer.Option(help="How many days, up to --end.")] = 38,
    per_day: Annotated[float, typer.Option(help="Transactions on an average day.")] = 24_000,
    fraud_share: Annotated[float, typer.Option(help="Share of frauds.")] = 0.01,
    seed: Annotated[int, typer.Option(help="The same seed, times and numbers make the same world, to the bit.")] = 7,
    end: Annotated[str, typer.Option(help="'now', or a time with its offset: 2026-01-31T00:00:00Z.")] = "now",
    as_json: AsJson = False,
) -> None:
    """Make a world: transactions, labels and the truth about fraud, as Parquet.

    Example: loadgen simulate --accounts 8000 --days 38 --per-day 24000 --seed 7 --end now --out .local/past
    """
    from loadgen.simulate import simulate as make
    from loadgen.simulate import summary, world_ending, write_past

    begun = time.perf_counter()
    world = world_ending(
        _moment("--end", end),
        days,
        accounts=accounts,
        counterparties=counterparties,
        per_day=per_day,
        fraud_share=fraud_share,
        seed=seed,
    )
    bar = Progress(
        TextColumn("simulating"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=_people,
        transient=True,
    )
    with bar if _people.is_terminal else nullcontext():
        task = bar.add_task("simulating")
        past = make(world, lambda done, total: bar.update(task, completed=done, total=total))
    write_past(out, world, past)
    counts = summary(past)
    if as_json:
        print(
            msgspec.json.encode(
                {"out": str(out), "seconds": time.perf_counter() - begun, "world": world, **counts}
            ).decode()
        )
        return
    table = Table("", "", show_header=False, box=None)
    patterns = counts.pop("patterns")
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    for name, value in patterns.items() if isinstance(patterns, dict) else ():
        table.add_row(f"  {name}", f"{value:,}")
    table.add_row("from", f"{world.start:%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("to", f"{world.end:%Y-%m-%d %H:%M:%S} UTC")
    _people.print(table)
    _people.print(f"written to {out} in {time.perf_counter() - begun:.1f} s")


@app.command()
def replay(
    file: Annotated[
        str,
        typer.Argument(
            help="A folder that `simulate` wrote, a Parquet or CSV file with --mapping, or an archive (its messages as they "
            "came)."
        ),
    ],
    mapping: Annotated[
        Path | None, typer.Option(help="Which column is what: a mapping.toml, or the name of one in schemas/mappings.")
    ] = None,
    kafka: Annotated[str | None, typer.Option(help="Default: FRAUD_KAFKA_URL, or 127.0.0.1:9092.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Before the topics' names; default: FRAUD_TOPIC_PREFIX.")] = None,
    rate: Annotated[float | None, typer.Option(help="Transactions a second.")] = None,
    speed: Annotated[float | None, typer.Option(help="The world's time against ours: 1 is as it happened.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what happens and becomes known from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what happens and becomes known before this time.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many transactions.")] = None,
    shift_to_now: Annotated[
        bool,
        typer.Option("--shift-to-now", help="Move all times by whole weeks, so that it ends in the last seven days."),
    ] = False,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Malformed messages for each transaction.")] = 0.0,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Producer's duplicates for each transaction.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the malformed messages and duplicates.")] = 1,
    registry: Annotated[
        str | None,
        typer.Option(help="A schema registry's address: register our schemas there, and send in Avro instead of JSON."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send transactions and labels of a past to Kafka, each when it is due: late is late, and never skipped.

    Labels go out when the stream's time gets to when they are known.  Ctrl-C ends it cleanly (status 130).

    Example: loadgen replay .local/past --rate 2000 --since 2026-01-21T00:00:00Z

    Example: loadgen replay transactions.parquet --mapping handbook --rate 2000 --limit 100000
    """
    from loadgen.replaying import Replay

    if (rate is None) == (speed is None):
        raise WrongSettings("say either --rate (transactions a second) or --speed (the world's time against ours)")
    replay = Replay(
        source=file,
        mapping=mapping,
        since=None if since is None else _moment("--since", since),
        until=None if until is None else _moment("--until", until),
        limit=limit,
        shift_to_now=shift_to_now,
        rate=rate,
        speed=speed,
        malformed=malformed,
        duplicates=duplicates,
        seed=seed,
        registry=registry,
    )
    sys.exit(replay.run(kafka, prefix, _people, as_json=as_json))


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="card-payments, paysim or creditcard: the mapping that reads it.")],
    file: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same table.")] = 7,
    force: Annotated[bool, typer.Option("--force", help="Replace another table at this place.")] = False,
) -> None:
    """Write a small synthetic table in somebody else's shape: something to try a mapping on.

    Example: loadgen sample card-payments payments.csv
    """
    from loadgen.samples import write_sample

    _people.print(f"{write_sample(name, file, seed=seed, force=force):,} rows written to {file}")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def mapping(context: typer.Context) -> None:
    """Draft a mapping for somebody's Parquet or CSV file (loadgen mapping --help)."""
    _elsewhere("mapping_command", "mapping", context.args)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def check(context: typer.Context) -> None:
    """Read the topics and report what was lost, doubled or contradicting (loadgen check --help)."""
    _elsewhere("check_command", "check", context.args)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(context: typer.Context) -> None:
    """The main job: simulate, train, load, score 240,000 live transactions, sum up (loadgen demo --help)."""
    _elsewhere("demo_command", "demo", context.args)


def _elsewhere(module: str, name: str, arguments: list[str]) -> None:
    """Runs the `app` of a module that needs much more than the others do."""
    importlib.import_module(f"loadgen.{module}").app(arguments, prog_name=f"loadgen {name}")


def _moment(option: str, text: str) -> datetime:
    if text == "now":
        return datetime.now(UTC)
    try:
        return moment(text)
    except WrongSettings as error:
        raise WrongSettings(f"{option}: {error}") from error


def main() -> None:
    """Exit status 0 well, 1 found something wrong, 2 wrong use or settings, 130 after Ctrl-C."""
    masking.guard_traces()
    try:
        app()
    except WrongSettings as error:
        _people.print(f"loadgen: {masking.text(str(error))}", style="red", markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
