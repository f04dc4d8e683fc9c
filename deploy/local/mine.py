"""`make mine TABLE=…`: somebody's table, from a draft of its mapping to verdicts by a model that learnt from it.

It gives the same commands as README and docs/your-own-table.md do by hand, and shows each.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import typer

from deploy.local.id_key import SETTING, id_key
from deploy.local.jars import PROJECT
from deploy.local.models import run
from deploy.local.supervisor import Standing, standing
from schemas import installation
from schemas.bundle import CURRENT
from schemas.errors import WrongSettings
from schemas.mapping import load_mapping, read_past
from schemas.spans import moment

MINE = "mine-"
"""The installation's topic prefix, where nobody says another: what it had is replaced each time."""
LIVE = 0.1
"""Of the payments, the newest, are sent live where nobody says from when on."""


class Starts(Protocol):
    """deploy.local.__main__.started."""

    def __call__(self, prefix: str, folder: Path | None = None, *, servers_only: bool = False) -> Standing: ...


@dataclass(frozen=True)
class Walk:
    """What is wanted."""

    table: Path
    mapping: Path | None
    since: str | None
    rate: float
    prefix: str


def walk(
    wanted: Walk,
    started: Starts,
    end: Callable[[Standing], None],
    *,
    command: Callable[[list[str]], None] = lambda arguments: run(arguments, folder=Path.cwd()),
    stands: Callable[[Path], Standing | None] = standing,
    home: Path = PROJECT,
) -> Standing:
    """What stands at the end.  Where it is interrupted or a step fails, what was started is ended.

    Raises Exit with the status of a step, WrongSettings.
    """
    if not wanted.table.is_file():
        raise WrongSettings(f"there is no file {wanted.table}: TABLE names a Parquet or CSV file of your payments")
    begin_anew(wanted.prefix, stands, home)
    os.environ["FRAUD_TOPIC_PREFIX"] = wanted.prefix
    os.environ[SETTING] = id_key()
    steps = _Steps(command)
    mapping, table = _mapping(wanted, steps), str(wanted.table)
    past = [table, "--mapping", str(mapping)]
    steps.take("is anything wrong or odd about it?", "training", "validate", *past)
    since = live_since(wanted.table, mapping) if wanted.since is None else moment(wanted.since)
    cut = f"{since:%Y-%m-%dT%H:%M:%SZ}"
    steps.take(f"learning from what was known on {cut}", "training", "run", *past, "--train-until", cut)
    try:
        steps.say("Kafka, Redis and the topics", "python -m deploy.local up --servers-only")
        running = started(wanted.prefix, servers_only=True)
        os.environ |= {"FRAUD_KAFKA_URL": str(running.kafka), "FRAUD_REDIS_URL": str(running.redis)}
        steps.take(
            "the past, into the log and into Redis, before anything judges", "features", "load", *past, "--until", cut
        )
        steps.say("a worker, which begins with the model that was learnt just now", "python -m deploy.local up")
        running = started(wanted.prefix)
        rate = f"{wanted.rate:g}"
        steps.take("what came after it, live", "loadgen", "replay", *past, "--since", cut, "--rate", rate)
        steps.take("is every verdict there, once, and right?", "loadgen", "check")
    except BaseException:
        begun = stands(home / installation.servers(wanted.prefix))
        if begun is not None:
            end(begun)
        raise
    return running


def begin_anew(prefix: str, stands: Callable[[Path], Standing | None], home: Path) -> None:
    """Without what an earlier walk left.  Raises WrongSettings where it runs, or is another's."""
    servers, bundles = (home / of(prefix) for of in (installation.servers, installation.bundles))
    if stands(servers) is not None:
        raise WrongSettings(f"the installation {prefix} runs already: FRAUD_TOPIC_PREFIX={prefix} make down ends it")
    if prefix != MINE and ((servers / "kafka").exists() or (bundles / CURRENT).exists()):
        raise WrongSettings(
            f"the installation {prefix} has data or a model already, which are not replaced: another FRAUD_TOPIC_PREFIX, "
            f"or none, which means {MINE}, would do"
        )
    for folder in ("kafka", "redis"):
        shutil.rmtree(servers / folder, ignore_errors=True)
    (bundles / CURRENT).unlink(missing_ok=True)  # else the model before would be the first to judge


def live_since(table: Path, mapping: Path) -> datetime:
    """The midnight (UTC), or where there is none the second, from which on about a tenth of the payments are.

    Raises WrongSettings where the table has none.
    """
    transactions, _ = read_past(table, load_mapping(mapping))
    if transactions.is_empty():
        raise WrongSettings(f"{table} has no payments that the mapping {mapping} can read")
    times = transactions["occurred_at"]
    cut = times.sort()[round((1 - LIVE) * (transactions.height - 1))]
    midnight = cut.replace(hour=0, minute=0, second=0, microsecond=0)
    day_before = bool((times.filter(times < midnight).len()) > 0.5 * times.len())
    found: datetime = midnight if day_before else cut.replace(microsecond=0) + timedelta(seconds=1)
    return found


def _mapping(wanted: Walk, steps: _Steps) -> Path:
    mapping = wanted.mapping or wanted.table.with_name(f"{wanted.table.stem}.mapping.toml")
    if wanted.mapping is None and not mapping.exists():
        steps.take("which column is what?", "loadgen", "mapping", str(wanted.table), "--output", str(mapping))
        _say(f"  going on with this draft: mend {mapping} where it is wrong, and run this again")
    return mapping


class _Steps:
    """One after the other, each shown as the command that it is."""

    def __init__(self, command: Callable[[list[str]], None]) -> None:
        self._command = command

    def say(self, what: str, shown: str) -> None:
        _say(f"\n• {what}\n  $ {shown}")

    def take(self, what: str, program: str, *arguments: str) -> None:
        self.say(what, shlex.join([program, *arguments]))
        try:
            self._command([sys.executable, "-m", program, *arguments])
        except typer.Exit as ended:
            _say(f"it ended with status {ended.exit_code}: mend what it names, and run this again")
            raise


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
