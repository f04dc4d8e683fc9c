"""`python -m deploy.local`: the local stack, one worker and one explainer, left running."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import psutil
import typer

from deploy.local import supervisor
from deploy.local.children import tail, unhurried
from deploy.local.id_key import FILE, SETTING, id_key
from deploy.local.jars import PROJECT
from deploy.local.mine import MINE, Walk, walk
from deploy.local.models import judging, require_model
from deploy.local.supervisor import Standing, judge, standing
from features.settings import Settings, load
from schemas import installation
from schemas.errors import WrongSettings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Folder = Annotated[
    Path | None,
    typer.Option(help="Where the stack keeps its files. Default: .local/<FRAUD_TOPIC_PREFIX>stack."),
]
END_WITHIN = 60.0
"""Seconds for the worker to finish its batch and for both servers to close their files."""
INTERRUPTED = 130


@app.command()
def up(
    folder: Folder = None,
    servers_only: Annotated[
        bool,
        typer.Option("--servers-only", help="Kafka, Redis and the topics: a past is loaded before anything judges."),
    ] = False,
) -> None:
    """Start Kafka, Redis, the topics, one worker and one explainer, and leave them running.

    FRAUD_TOPIC_PREFIX says of which installation; each has servers of its own.

    Example: python -m deploy.local up
    """
    with ends_cleanly():
        running = started(prefix_of(os.environ), folder, servers_only=servers_only)
    show(running)
    for line in exports(running):
        print(line)
    say("`make status` says it again, `make down` ends it")


@app.command()
def mine(
    table: Annotated[Path, typer.Argument(help="A Parquet or CSV file of your payments, with what was found a fraud.")],
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="Which column is what. Default: TABLE.mapping.toml beside it, which is drafted where it isn't."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="From when on payments are sent live; before, they are learnt from. Default: the newest tenth."
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Of them that are sent, a second.")] = 200.0,
) -> None:
    """From your table to your model judging your payments: draft, validate, learn, load, serve, replay, check.

    Each command is shown before it runs. Everything is left running, as an installation of its own (mine-).

    Example: python -m deploy.local mine payments.csv
    """
    with ends_cleanly():
        prefix = prefix_of(os.environ) or MINE
        running = walk(Walk(table, mapping, since, rate, prefix), started, end)
    show(running)
    for line in exports(running):
        print(line)
    say(
        "`make status` says it again, `make down` ends it; what the steps were, and what comes next: docs/your-own-table.md"
    )


@app.command()
def down(folder: Folder = None) -> None:
    """End what `up` started: the worker finishes its batch first.  Without FRAUD_TOPIC_PREFIX, of all installations.

    Example: python -m deploy.local down
    """
    running = [one for one in (standing(place) for place in places(folder)) if one is not None]
    if not running:
        print("nothing is running")
    for one in running:
        end(one)
        print("ended" if not one.prefix else f"ended {one.prefix}")


@app.command()
def status(
    folder: Folder = None, as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False
) -> None:
    """Say what runs and where; status 1 where nothing does.

    To standard output go lines for a shell, eval "$(make -s status)", and to standard error what people want to know.

    Example: python -m deploy.local status --json
    """
    found = [one for one in (standing(place) for place in places(folder)) if one is not None]
    chosen = next((one for one in found if one.prefix == prefix_of(os.environ)), found[0] if len(found) == 1 else None)
    if as_json:
        print(msgspec.json.encode(chosen).decode())
    for one in found if not as_json else ():
        show(one)
    if chosen is None:
        if not as_json:
            say(
                "nothing is running; `make up` starts it" if not found else "FRAUD_TOPIC_PREFIX says which one is meant"
            )
        raise typer.Exit(1)
    for line in exports(chosen) if not as_json else ():
        print(line)


@app.command(hidden=True)
def supervise(folder: Path, prefix: str = "", servers_only: bool = False) -> None:
    """What `up` leaves behind; ends with SIGTERM."""
    raise typer.Exit(supervisor.main(folder, prefix=prefix, servers_only=servers_only))


def started(prefix: str, folder: Path | None = None, *, servers_only: bool = False) -> Standing:
    """What stands, and is started where it doesn't.  Raises Exit, WrongSettings."""
    folder = folder_of(folder, prefix)
    running = standing(folder)
    if running is None:
        if not servers_only:
            require_model(prefix)
        return start_supervisor(folder, prefix, servers_only=servers_only)
    if running.ready or servers_only:
        say("running already")
        return running
    require_model(prefix)
    judge(running)
    return wait_for(folder, running.process, servers_only=False)


@contextmanager
def ends_cleanly() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what was being started, and say so with status 130."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # Ctrl-C too: whoever was started in the background of a script has it ignored, and is to end all the same.
    before = {asking: signal.signal(asking, interrupt) for asking in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        say("stopped; nothing that was being started is left")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for asking, handler in before.items():
            signal.signal(asking, handler)


def prefix_of(environment: dict[str, str] | os._Environ[str]) -> str:
    return load(Settings, environment).topic_prefix


def folder_of(folder: Path | None, prefix: str) -> Path:
    return (PROJECT / installation.servers(prefix) if folder is None else folder).absolute()


def places(folder: Path | None) -> list[Path]:
    """The one that is meant; all where nobody says."""
    if folder is not None or "FRAUD_TOPIC_PREFIX" in os.environ:
        return [folder_of(folder, prefix_of(os.environ))]
    return sorted(note.parent for note in (PROJECT / installation.LOCAL).glob("*stack/up.json"))


def end(running: Standing) -> None:
    process = running.process
    if process is None:
        return
    process.terminate()
    try:
        process.wait(END_WITHIN)
    except psutil.TimeoutExpired:
        process.kill()  # the kernel ends its children
        process.wait()


def start_supervisor(folder: Path, prefix: str, *, servers_only: bool) -> Standing:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "supervisor.log"
    command = [sys.executable, "-m", "deploy.local", "supervise", str(folder), "--prefix", prefix]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [*command, *(["--servers-only"] if servers_only else [])],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives us, and the terminal
        )
    try:
        return wait_for(folder, psutil.Process(process.pid), servers_only=servers_only)
    except BaseException:
        with unhurried():
            process.terminate()
            process.wait()
        raise


def wait_for(folder: Path, process: psutil.Process | None, *, servers_only: bool) -> Standing:
    """What stands once it serves, or is ready to judge; says meanwhile how far it is."""
    here = standing(folder)
    if here is None or not here.serves:
        say("starting Kafka and Redis: some seconds …")
    said = False
    while process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        running = standing(folder)
        if running is not None and (running.ready or (servers_only and running.serves)):
            return running
        if running is not None and running.serves and not said and not servers_only:
            say("starting a worker: some seconds, and up to a minute the first time, when its code is compiled …")
            said = True
        time.sleep(0.1)
    say(tail(folder / "supervisor.log"))
    raise typer.Exit(1)


def show(running: Standing) -> None:
    """For people, to standard error."""
    say(f"supervisor  process {running.pid}{f', of the installation {running.prefix}' if running.prefix else ''}")
    addresses = {"Kafka": running.kafka, "Redis": running.redis}
    if running.ready:
        addresses |= {"worker": running.worker, "explainer": running.explainer}
    for name, address in addresses.items():
        say(f"{name:<11} {address or 'starting'}")
    say(f"model       {judging(running)}")


def exports(running: Standing, key_file: Path = FILE) -> Sequence[str]:
    """Lines that a shell evaluates: what commands of this installation need to know.

    The key is made where there is none: a past is folded by it before a worker is.
    """
    if not running.serves:
        return ()
    known = {
        "FRAUD_KAFKA_URL": running.kafka,
        "FRAUD_REDIS_URL": running.redis,
        "FRAUD_TOPIC_PREFIX": running.prefix,
        "KAFKA": running.kafka,
    }
    lines = [f"export {name}={shlex.quote(str(value))}" for name, value in known.items()]
    if os.environ.get(SETTING):
        return lines
    id_key(file=key_file)
    # Not the secret itself: what is printed is read by others too.
    return [*lines, f'export {SETTING}="$(cat {shlex.quote(str(key_file))})"']


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> NoReturn:
    """Exit status 0 well, 1 nothing runs or it did not start, 2 wrong settings, 130 after Ctrl-C, which leaves nothing."""
    try:
        app(prog_name="python -m deploy.local")
    except WrongSettings as error:
        say(str(error))
        sys.exit(2)
    sys.exit(0)


if __name__ == "__main__":
    main()
