"""`loadgen mapping`: drafts a mapping for somebody's table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console

from schemas.errors import WrongSettings

if TYPE_CHECKING:
    from loadgen.drafting.draft import Draft

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
_people = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A Parquet or CSV file.")],
    output: Annotated[Path | None, typer.Option(help="Where to write the mapping; default: standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as one line of JSON on standard output.")] = False,
) -> None:
    """Draft a mapping.toml from a table's columns: their names, types and values, with a reason for each guess.

    A draft is for somebody to look at: it says what it is not sure of, what it could not find, and which columns look as
    if they gave the answer away.  It is tried on the whole table.  Exit status 1 where it can't be used as it is.

    Example: loadgen mapping payments.csv --output mapping.toml
    """
    from loadgen.drafting.draft import draft

    if output is not None:
        _require_room(output, force=force)
    try:
        drafted = draft(file)
        if output is not None:
            output.write_text(drafted.toml, encoding="utf-8")
    except WrongSettings as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{output}: {error.strerror}")
    if as_json:
        print(msgspec.json.encode(report(drafted)).decode())
    elif output is None:
        print(drafted.toml, end="")
    for line in summary(drafted):
        _people.print(line, markup=False)
    if output is not None:
        _people.print(f"written to {output}", markup=False)
    sys.exit(0 if drafted.complete else 1)


def _require_room(output: Path, *, force: bool) -> None:
    """Before a table is read.  A mapping that somebody has edited must not be lost to another draft."""
    if output.exists() and not force:
        _fail(f"{output} is there already; --force replaces it, or another --output would do")
    if not output.parent.is_dir():
        _fail(f"{output.parent}, the folder for {output.name}, does not exist")


def _fail(why: str) -> None:
    _people.print(f"loadgen mapping: {why}", style="red", markup=False)
    sys.exit(2)


def report(drafted: Draft) -> dict[str, Any]:
    """For a program."""
    told = {name: value for name, value in vars(drafted).items() if name != "file"}
    return {"file": str(drafted.file), "complete": drafted.complete, **told}


def summary(drafted: Draft) -> list[str]:
    """For people."""
    lines = [f"{drafted.file}: {drafted.rows:,} rows, of which {drafted.sampled:,} were looked at"]
    lines += [f"  {each.key:30s} {_some(list(each.columns))}" for each in drafted.guesses if each.columns]
    lines.append(f"  {'attributes':30s} {_some([each.column for each in drafted.attributes])}")
    lines += _told(
        "gives the answer away, perhaps (under `drop`)", {e.column: e.why for e in drafted.drop if e.suspicious}
    )
    lines += _told("left out (under `drop`)", {each.column: each.why for each in drafted.drop if not each.suspicious})
    checks = {f"{each.key} = {each.value}": each.why for each in drafted.guesses if not each.sure}
    checks |= {f"attribute {each.column!r}": each.odd for each in drafted.attributes if each.odd}
    lines += _told("to be checked", checks)
    lines += _told("not found", {each.key + " (NEEDED)" * each.needed: each.why for each in drafted.missing})
    return lines + _tried(drafted)


def _told(title: str, what: dict[str, str], most: int = 12) -> list[str]:
    if not what:
        return []
    shown = [f"  {name}: {why}" for name, why in list(what.items())[:most]]
    more = [f"  … and {len(what) - most:,} more"] if len(what) > most else []
    return [f"{title}:", *shown, *more]


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(map(repr, names[:most])) or "none") + more


def _tried(drafted: Draft) -> list[str]:
    trial = drafted.trial
    if trial is None:
        return ["the draft can't be used yet: fill in what is NEEDED"]
    if trial.error is not None:
        return [f"the draft can't be used yet: {trial.error}"]
    lines = [
        f"tried on the whole table: {trial.transactions:,} transactions, {trial.labels:,} frauds, "
        f"{trial.rejected:,} rows rejected"
        + (f", {trial.labels_left_out:,} frauds left out" if trial.labels_left_out else "")
    ]
    if trial.first is not None:
        lines[0] += f"; from {trial.first:%Y-%m-%d %H:%M:%S} to {trial.last:%Y-%m-%d %H:%M:%S} UTC"
    lines += [f"  {reason}: {count:,}" for reason, count in trial.reasons.items()]
    return lines + [f"  {example}" for example in trial.examples]
