"""`dead-letters`: what could not be judged, looked at, and sent again once what was wrong is mended."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer
from rich.table import Table

from features.people import console
from features.settings import Settings, load
from schemas import masking
from schemas.dead_letter import ATTEMPT, cut_from
from schemas.errors import Fault, FraudScorerError, LogUnavailable, WrongSettings
from schemas.partitioning import partition_of

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

    from features.log import Letter

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Messages that could not be judged: the bytes as they came, and why.",
)  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Error = Annotated[Fault | None, typer.Option(help="Only those with this error.")]


class _Place(NamedTuple):
    """Where a dead letter lies on `dead-letters`."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> _Place:
        try:
            partition, offset = text.split(":")
            return cls(int(partition), int(offset))
        except ValueError:
            raise WrongSettings(
                f"{text!r} is no place: write PARTITION:OFFSET, as `dead-letters list` shows it"
            ) from None


@app.command("list")
def list_letters(error: Error = None, limit: Annotated[int, typer.Option(min=1)] = 50, as_json: AsJson = False) -> None:
    """The newest dead letters, and how many there are of each error.

    Example: dead-letters list --error unknown-currency
    """
    letters = [letter for letter in _all() if error is None or letter.says.fault is error]
    letters.sort(key=lambda letter: letter.says.at)
    if as_json:
        for letter in letters[-limit:]:
            print(msgspec.json.encode(_described(letter)).decode())
        return
    table = Table("place", "error", "from", "at", "detail")
    for letter in letters[-limit:]:
        says = letter.says
        source = f"{says.topic} [{says.partition}] {says.offset}"
        table.add_row(
            f"{letter.partition}:{letter.offset}", says.fault, source, f"{says.at:%Y-%m-%d %H:%M:%S}", says.detail
        )
    out = console()
    out.print(table)
    for fault, count in Counter(letter.says.fault for letter in letters).most_common():
        out.print(f"{count:>8,}  {fault}")


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `list` shows it.")], as_json: AsJson = False
) -> None:
    """One dead letter: what its headers say, and its bytes.  Exit status 1 where there is none.

    Example: dead-letters show 2:17
    """
    letter = _at(_Place.parse(place))
    if as_json:
        print(msgspec.json.encode(_described(letter)).decode())
        return
    for name, value in msgspec.to_builtins(letter.says).items():
        print(f"{name:>10}  {value}")
    print(f"{'key':>10}  {letter.key!r}")
    print(f"{'value':>10}  {letter.value!r}")


@app.command()
def resend(
    places: Annotated[list[str] | None, typer.Argument(help="PARTITION:OFFSET of each.")] = None,
    error: Annotated[Fault | None, typer.Option(help="All with this error instead.")] = None,
) -> None:
    """Send dead letters to their topic again, as they came: once what was wrong with them is mended.

    To the partition that their key belongs to.  Each is judged as a new message; one that still can't be is dead-lettered
    again, with `attempt` one higher.  Where one of them can't be sent, none is: a letter too large to be kept whole, and one
    that says that records are gone.  Example: dead-letters resend --error unknown-currency
    """
    from confluent_kafka import Producer

    if bool(places) == bool(error):
        raise WrongSettings("name places (PARTITION:OFFSET …) or an --error, and not both")
    letters = (
        [letter for letter in _all() if letter.says.fault is error]
        if error
        else [_at(_Place.parse(p)) for p in places or ()]
    )
    settings = load(Settings, os.environ)
    outgoing = [message_again(letter, settings.partitions) for letter in letters]
    producer = Producer(settings.client(acks="all", enable_idempotence=True, partitioner="murmur2_random"))
    failed: list[str] = []

    def check(problem: KafkaError | None, _message: object) -> None:
        if problem is not None:
            failed.append(problem.str())

    for topic, partition, key, value, headers in outgoing:
        producer.produce(topic, value=value, key=key, partition=partition, headers=headers, on_delivery=check)
        producer.poll(0)
    left = producer.flush(30)
    if left or failed:
        raise LogUnavailable(
            f"{left + len(failed)} of {len(letters)} were not taken: {failed[0] if failed else 'no answer'}"
        )
    print(f"sent {len(letters):,} again")


class MessageAgain(NamedTuple):
    """What is sent of a dead letter."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]


def message_again(letter: Letter, partitions: int) -> MessageAgain:
    """The message as it came, for its topic of so many partitions, and which attempt it is.

    Raises WrongSettings, naming the letter's place, where it doesn't hold the message.
    """
    says, where = letter.says, f"{letter.partition}:{letter.offset}"
    if says.fault is Fault.LOST:
        raise WrongSettings(
            f"{where} is no message: it says that records are gone from the log; nothing can be sent again"
        )
    if (bytes_of_whole := cut_from(says.detail)) is not None:
        raise WrongSettings(
            f"{where} was cut: of the message's {bytes_of_whole:,} bytes it holds the first {len(letter.value or b''):,}; "
            f"whoever sent the whole to {says.topic} must send it again"
        )
    partition = partition_of(letter.key, partitions) if letter.key else says.partition
    return MessageAgain(says.topic, partition, letter.key, letter.value, [(ATTEMPT, str(says.attempt + 1))])


def _all() -> Iterator[Letter]:
    from features.log import Log

    with Log(load(Settings, os.environ)) as log:
        log.check_topics()
        for number in range(log.settings.partitions):
            yield from log.letters(number)


def _at(place: _Place) -> Letter:
    from features.log import Log

    with Log(load(Settings, os.environ)) as log:
        log.check_topics()
        if 0 <= place.partition < log.settings.partitions:
            for letter in log.letters(place.partition, begin=place.offset, end=place.offset + 1):
                return letter
    print(f"there is no dead letter at {place.partition}:{place.offset}", file=sys.stderr)
    raise typer.Exit(1)


def _described(letter: Letter) -> dict[str, object]:
    """For `--json`: bytes as base64."""
    place = f"{letter.partition}:{letter.offset}"
    return {"place": place, **msgspec.to_builtins(letter.says), "key": letter.key, "value": letter.value}


def main() -> None:
    """The console script.  Exit status 0 well, 1 found something wrong, 2 wrong use or settings."""
    masking.guard_traces()
    try:
        app()
    except WrongSettings as error:
        print(f"dead-letters: {masking.text(str(error))}", file=sys.stderr)
        sys.exit(2)
    except FraudScorerError as error:
        print(f"dead-letters: {masking.text(str(error))}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        from confluent_kafka import KafkaException  # only now: `--help` needs no client of Kafka

        if not isinstance(error, KafkaException):
            raise
        print(f"dead-letters: {masking.text(str(error))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
