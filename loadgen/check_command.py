"""`loadgen check`: what was promised, held against the topics and the store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.people import console
from features.settings import Settings, load
from schemas import masking
from schemas.errors import LogUnavailable, TryAgain, WrongSettings

if TYPE_CHECKING:
    from loadgen.check import Report

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
_people = console(stderr=True)


@app.command()
def run(
    bundles: Annotated[
        Path | None,
        typer.Option(
            envvar="FRAUD_TRAINING_OUT",
            help="The folder of bundles: without a verdict's, its attributes aren't compared. Default: the installation's, "
            ".local/<topic prefix>bundles.",
        ),
    ] = None,
    profiles: Annotated[
        bool, typer.Option(help="Compare the profiles in Redis with a serial fold, byte for byte.")
    ] = True,
    processes: Annotated[int, typer.Option(min=1, help="To read and compute with.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one line of JSON on standard output.")] = False,
) -> None:
    """Read all topics and compute every verdict's vector and every profile again: lost, doubled, contradicting.

    Kafka, Redis, prefix and group come from the settings (FRAUD_KAFKA_URL, FRAUD_REDIS_URL, FRAUD_TOPIC_PREFIX, …).
    While messages are being judged it says what is pending; the profiles are compared when they stand still.
    Exit status 1 where anything is lost, doubled, contradicting or different.

    Example: FRAUD_KAFKA_URL=127.0.0.1:9092 FRAUD_REDIS_URL=redis://127.0.0.1:6379/0 loadgen check
    """
    from loadgen.check import check

    bar = Progress(
        TextColumn("reading and computing again"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=_people, transient=True, disable=not _people.is_terminal,
    )  # fmt: skip
    try:
        with bar:
            task = bar.add_task("", total=None)
            report = check(
                load(Settings, os.environ),
                bundles=bundles,
                profiles=profiles,
                processes=processes,
                told=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except WrongSettings as error:
        _people.print(f"loadgen check: {masking.text(str(error))}", style="red", markup=False, highlight=False)
        sys.exit(2)
    except (LogUnavailable, TryAgain) as error:
        _people.print(f"loadgen check: {masking.text(str(error))}", style="red", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        _people.print("stopped")
        sys.exit(130)
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(report) | {"well": report.well}).decode())
    else:
        _people.print(table_of(report))
        for example in report.examples:
            _people.print(f"  {example}", markup=False, highlight=False)
    sys.exit(0 if report.well else 1)


def table_of(report: Report) -> Table:
    """The report for people."""
    table = Table("", "", show_header=False, box=None)
    rows: list[tuple[str, str]] = [
        ("transactions", f"{report.transactions:,}"),
        ("pending", f"{report.pending:,}"),
        ("verdicts", f"{report.verdicts:,}  ({_counts(report.outcomes)})"),
        ("alerts", f"{report.alerts:,}"),
        ("  explained afterwards", f"{report.explanations:,}, awaited {report.awaited:,}"),
        ("dead letters", f"{sum(report.dead_lettered.values()):,}  ({_counts(report.dead_lettered)})"),
        ("duplicates, told once", f"{report.duplicates:,}"),
        ("lost", f"{report.lost:,}"),
        ("doubled", f"{report.doubled:,}"),
        ("contradicting", f"{report.contradicting:,}"),
        ("vectors compared", f"{report.vectors_compared:,}, different {report.vectors_different:,}"),
        ("  attributes and all", f"{report.vectors_compared_in_full:,}"),
        ("  if all were known at once", f"{report.vectors_different_if_instant:,} would be others"),
        ("  degraded, and flagged so", f"{report.degraded:,}"),
        ("  on too little, and not", f"{report.judged_on_too_little:,}"),
        ("  activity came late", f"for {report.activity_late:,}"),
        ("profiles compared", f"{report.profiles_compared:,}, different {report.profiles_different:,}"),
    ]
    if report.vectors_by_another_key:
        rows.append(("judged by another key", f"{report.vectors_by_another_key:,}, not compared"))
    if report.vectors_not_comparable:
        rows.append(("vectors not comparable", f"{report.vectors_not_comparable:,}: what they were made of is gone"))
    if report.gone:
        rows.append(("of records that are gone", f"{report.gone:,} verdicts, alerts and activities"))
    rows += [("accepted as lost", loss) for loss in report.accepted]
    rows += [("the log begins later", f"{name} at {low:,}") for name, low in report.begins_at.items()]
    for name, value in rows:
        bad = name.strip() in ("lost", "doubled", "contradicting", "on too little, and not") and value != "0"
        table.add_row(name, value, style="red" if bad else "")
    return table


def _counts(by_name: dict[str, int]) -> str:
    return (
        ", ".join(f"{name} {count:,}" for name, count in sorted(by_name.items(), key=lambda item: -item[1])) or "none"
    )
