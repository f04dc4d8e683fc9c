"""`python -m features`: loading a past, rebuilding profiles from the log, looking at one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from features.position import Keys, Position
from features.profile import ACCOUNT, DamagedProfiles, Profiles
from features.settings import Settings
from features.settings import load as load_settings
from schemas import masking
from schemas.errors import FraudScorerError, StoreUnavailable, WrongSettings
from schemas.partitioning import partition_of
from schemas.spans import moment

if TYPE_CHECKING:
    from features.log import Log
    from features.rebuild import Rebuilt

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="What is remembered of accounts and counterparties.",
)  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
_err = Console(stderr=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:>24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=_err,
        disable=not _err.is_terminal,
    )  # fmt: skip


@app.command("load")
def load_past(
    past: Annotated[Path, typer.Argument(help="A folder that `loadgen simulate` wrote, a Parquet or a CSV file.")],
    mapping: Annotated[
        Path | None, typer.Option(help="Which column is what: a mapping.toml, or the name of one in schemas/mappings.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only what happened and became known before, as 2026-01-31T00:00:00Z.")
    ] = None,
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out", help="Load the rest where rows can't be transactions or no worker would accept them."
        ),
    ] = False,
    as_json_: JsonOption = False,
) -> None:
    """Write a past to the log, fold it into Redis and commit the group's offsets behind it: it is not judged.

    Before the first worker starts.  All rows are checked before the first one is written.

    Example: python -m features load payments.parquet --mapping mapping.toml
    """
    from features.load import STEPS, as_json, load, require_whole
    from features.log import Log
    from schemas.mapping import Rejected, read_past
    from schemas.tables import part_of

    settings = load_settings(Settings, os.environ)
    before = None if until is None else moment(until)
    with Log(settings) as log:  # before a long table is read
        log.check_topics()
    rejected: list[Rejected] = []
    transactions, labels = part_of(*read_past(past, mapping, on_rejected=rejected.append), until=before)
    for one in rejected:
        _err.print(str(one), style="yellow", markup=False, highlight=False)
    if not leave_out:
        require_whole(rejected)
    rows = len(transactions) + len(labels)
    with _progress() as bars:
        totals = dict(zip(STEPS, (rows, len(transactions), len(labels), rows, None, None), strict=True))
        tasks = {step: bars.add_task(step, total=total) for step, total in totals.items()}
        loaded = load(
            settings, transactions, labels, lambda step, count: bars.advance(tasks[step], count), leave_out=leave_out
        )
    if as_json_:
        print(as_json(loaded))
        return
    print(
        f"loaded {loaded.transactions:,} transactions, {loaded.labels:,} labels, {loaded.activity:,} counterparty activities"
    )
    if loaded.not_yet_known:
        print(f"left out: {loaded.not_yet_known:,} labels that become known only later: send them when they are")
    if loaded.duplicates or loaded.reused or loaded.rejected:
        print(
            f"left out: {loaded.duplicates:,} duplicates, {loaded.reused:,} ids used again, {loaded.rejected:,} rows that no "
            "worker would accept"
        )


@app.command("rebuild")
def rebuild_partitions(
    partition: Annotated[list[int] | None, typer.Option(help="Partition numbers; all where none is named.")] = None,
    from_here: Annotated[bool, typer.Option(help="Accept a log that no longer begins at its beginning.")] = False,
    accept_loss: Annotated[
        bool, typer.Option(help="Accept a log that no longer holds what was judged: what is there is judged.")
    ] = False,
    as_json_: JsonOption = False,
) -> None:
    """Fold profiles anew from the log, under a new epoch, and then let them be seen.

    Example: python -m features rebuild --partition 3
    """
    from features.rebuild import rebuild

    with _progress() as bars:

        def rebuild_one(settings: Settings, log: Log, number: int) -> Rebuilt:
            task = bars.add_task(f"partition {number}", total=None)
            return rebuild(
                settings,
                log,
                number,
                from_here=from_here,
                accept_loss=accept_loss,
                told=lambda n: bars.advance(task, n),
            )

        done = _for_each(partition, rebuild_one)
    _report("rebuilt", done, as_json=as_json_)


@app.command("skip-gap")
def skip_gaps(
    partition: Annotated[list[int] | None, typer.Option(help="Partition numbers; all where none is named.")] = None,
    as_json_: JsonOption = False,
) -> None:
    """Keep the profiles and go on behind records that retention took before they were folded: nobody judges those.

    Example: python -m features skip-gap --partition 3
    """
    from features.rebuild import skip_gap

    _report("skipped", _for_each(partition, skip_gap), as_json=as_json_)


@app.command()
def check(as_json_: JsonOption = False) -> None:
    """Say which partitions a worker with these settings would leave out, why, and what mends it.  Reads only.

    Exit status 1 where it would leave one out.  Before an upgrade, run it with the new release.  Example: features check
    """
    from redis.exceptions import RedisError

    from features.log import Log
    from features.rebuild import connect
    from features.redis_words import why
    from features.resuming import parked

    settings = load_settings(Settings, os.environ)
    rules = settings.rules()
    client: Any = connect(settings)
    found: dict[int, str | None] = {}
    with Log(settings) as log:
        log.check_topics()
        for number in range(settings.partitions):
            try:
                raw = client.get(Keys(settings.topic_prefix, number).position) or b""
            except RedisError as error:
                raise StoreUnavailable(why(error)) from error
            found[number] = parked(log, log.standing(number, raw), rules)
    if as_json_:
        print(json.dumps({"format": rules.format(), "partitions": found}))
    else:
        for number, reason in found.items():
            print(reason or f"partition {number}: a worker would serve it")
    if any(found.values()):
        raise typer.Exit(1)


def _for_each(numbers: list[int] | None, do: Callable[[Settings, Log, int], Rebuilt]) -> dict[int, Rebuilt]:
    from features.log import Log

    settings = load_settings(Settings, os.environ)
    with Log(settings) as log:
        log.check_topics()
        for number in numbers or ():
            if not 0 <= number < settings.partitions:
                raise WrongSettings(f"there is no partition {number}: FRAUD_PARTITIONS is {settings.partitions}")
        return {number: do(settings, log, number) for number in numbers or range(settings.partitions)}


def _report(done_to_it: str, done: dict[int, Rebuilt], *, as_json: bool) -> None:
    if as_json:
        lost = {number: one.lost for number, one in done.items() if one.lost}
        print(json.dumps({done_to_it: {number: list(one.until) for number, one in done.items()}, "lost": lost}))
        return
    for number, one in done.items():
        until = one.until
        print(f"partition {number}: {done_to_it} up to transactions {until[0]}, labels {until[1]}, activity {until[2]}")
        for line in one.lost:
            print(f"  lost: {line}")


@app.command("rekey")
def rekey_activity(as_json_: JsonOption = False) -> None:
    """After another FRAUD_ID_KEY: derive anew what counterparties are told.  All workers must be stopped.

    What is by the key already is left as it is.  `features rebuild` follows.  Example: python -m features rekey
    """
    from features.rekeying import STEPS, rekey

    settings = load_settings(Settings, os.environ)
    with _progress() as bars:
        tasks = {step: bars.add_task(step, total=None) for step in STEPS}
        done = rekey(settings, lambda step, count: bars.advance(tasks[step], count))
    if as_json_:
        print(json.dumps(done._asdict()))
        return
    print(f"{done.derived:,} counterparty activities derived anew; `features rebuild` folds them")
    if done.gone:
        print(f"{done.gone:,} could not be: their transactions or labels are on the log no more")


@app.command()
def show(
    account: Annotated[str, typer.Argument(help="The account_id.")],
    as_json_: JsonOption = False,
) -> None:
    """What is remembered of an account.  Exit status 1 where nothing is.

    Example: python -m features show acct-000123
    """
    from redis.exceptions import RedisError

    from features.rebuild import asking
    from features.redis_words import why

    settings = load_settings(Settings, os.environ)
    number = partition_of(account.encode(), settings.partitions)
    keys = Keys(settings.topic_prefix, number)
    client = asking(settings)
    try:
        raw: Any = client.get(keys.position)
        key = keys.account(Position.parse(raw).epoch, account) if raw else ""
        blob: Any = client.get(key) if raw else None
        memory: Any = client.memory_usage(key) if blob else 0
    except RedisError as error:
        raise StoreUnavailable(why(error)) from error
    except ValueError as error:
        raise StoreUnavailable(
            f"partition {number}: its position is {raw[:100]!r}, which is none; `features rebuild --partition {number}` mends it"
        ) from error
    if blob is None:
        print(f"nothing is remembered of account {account!r} (partition {number})", file=sys.stderr)
        raise typer.Exit(1)
    profiles = Profiles.room_for(1, ACCOUNT)
    try:
        profiles.unpack([blob])
    except DamagedProfiles as damaged:
        raise StoreUnavailable(
            f"what Redis holds of account {account!r} is damaged ({len(blob)} bytes under {key}): somebody else wrote there, or "
            f"it was not kept as it was written; `features rebuild --partition {number}` folds partition {number} anew"
        ) from damaged
    shown = _shown(profiles) | {
        "account_id": account,
        "partition": number,
        "key": key,
        "bytes": len(blob),
        "redis_bytes": memory,
    }
    if as_json_:
        print(msgspec.json.encode(shown).decode())
        return
    for name in ("account_id", "partition", "key", "bytes", "redis_bytes", "transactions", "first", "newest"):
        print(f"{name:>14}  {shown[name]}")
    print(f"{'events':>14}  {len(shown['events'])} in the ring, {shown['tiles']} tiles of older ones; the last:")
    for event in shown["events"][-10:]:
        print(f"{'':>14}  {event['at']}  {event['amount'] / 100:>14,.2f}")
    print(f"{'labels':>14}  {len(shown['labels'])}")
    for label in shown["labels"][-10:]:
        print(
            f"{'':>14}  known {label['known_at']}: {'fraud' if label['is_fraud'] else 'legitimate'}, of {label['occurred_at']}"
        )


def _shown(profiles: Profiles) -> dict[str, Any]:
    head = profiles.rows.head[0]
    ring = slice(head["begin"], head["begin"] + head["events"])
    events = (column[0, ring] for column in (profiles.rows.events.time, profiles.rows.events.amount))
    labels = profiles.rows.labels[0, : head["labels"]]
    return {
        "transactions": int(head["total"]),
        "first": _at(head["first"]),
        "newest": _at(head["newest"]),
        "events": [{"at": _at(time), "amount": int(amount)} for time, amount in zip(*events, strict=True)],
        "tiles": int(head["tiles"]),
        "labels": [
            {"known_at": _at(label["known"]), "occurred_at": _at(label["occurred"]), "is_fraud": bool(label["fraud"])}
            for label in labels
        ],
    }


def _at(time: np.int64) -> str:
    """Of any year: an older release may have accepted one that `datetime` has not."""
    return f"{np.datetime64(int(time), 'us')}".removesuffix(".000000") + "+00:00"


def main() -> None:
    """The console script.  Exit status 0 well, 1 found something wrong, 2 wrong use or settings."""
    masking.guard_traces()
    try:
        app()
    except WrongSettings as error:
        print(f"wrong settings: {masking.text(str(error))}", file=sys.stderr)
        sys.exit(2)
    except FraudScorerError as error:
        print(masking.text(str(error)), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
