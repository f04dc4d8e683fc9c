"""What a message is in the archive's tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.archive_tables import columns_of
from schemas.avro_wire import NO_REGISTRY
from schemas.dead_letter import DeadLetter
from schemas.topics import ACTIVITY, DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.wire import encode, microseconds
from tests.builders import NOON, a_dead_letter, a_transaction
from tests.examples import examples
from tests.unit.test_golden_examples import EXAMPLES, FOLDER
from training.archive_rows import Arrived, rows_of

SAID_BY = {"transaction": TRANSACTIONS, "label": LABELS, "verdict": VERDICTS, "activity": ACTIVITY}
GOLDEN = [
    (path, SAID_BY[path.name.split("-")[0]])
    for path in sorted(FOLDER.rglob("*.json"))
    if path.name.split("-")[0] in SAID_BY
]


def rows(topic: Topic, values: Sequence[bytes | None], headers: Sequence[Any] = ()) -> pl.DataFrame:
    """These at offsets from 0 on, come at noon."""
    some = Arrived(
        partitions=[3] * len(values),
        offsets=range(len(values)),
        timestamps=[microseconds(NOON) // 1000] * len(values),
        keys=[b"key"] * len(values),
        values=values,
        headers=headers,
    )
    return rows_of(topic, some, NO_REGISTRY)


@pytest.mark.parametrize(("path", "topic"), GOLDEN, ids=lambda one: getattr(one, "name", None))
def test_every_message_of_every_version_so_far_has_its_columns_and_its_bytes(path: Path, topic: Topic) -> None:
    value = path.read_bytes()
    _, expected = EXAMPLES[str(path.relative_to(FOLDER).with_suffix(""))]

    (row,) = rows(topic, [value]).rows(named=True)

    assert row["value"] == value
    assert row["day"] == date(2026, 3, 2)
    assert list(row) == list(columns_of(topic))
    for name, meant in _flat(expected).items():
        assert row[name] == meant, name


def _flat(message: msgspec.Struct) -> dict[str, Any]:
    """What the columns must say of it."""
    said = {name: getattr(message, name) for name in message.__struct_fields__}
    shadow = said.pop("shadow", None)
    said |= {} if shadow is None else {"shadow_bundle": shadow.bundle, "shadow_score": shadow.score}
    for name in ("source", "folded"):
        part = said.pop(name, None)
        if isinstance(part, msgspec.Struct):
            said |= {f"{name}_{inner}": getattr(part, inner) for inner in part.__struct_fields__}
        elif part is not None:
            said[name] = part
    said.pop("vector", None)  # it is in the bytes
    if "flags" in said:
        said["flags"] = ",".join(said["flags"]) or None
    if "attributes" in said:
        said["attributes"] = json.dumps(said["attributes"], separators=(",", ":")) if said["attributes"] else None
    if "transaction" in said:  # activity: hashes, and times in microseconds
        for name in ("transaction", "account"):
            said[name] -= (said[name] >> 63) << 64
        for name in ("occurred_at", "known_at"):
            said[name] = (
                None if said[name] is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=said[name])
            )
    return said


def test_what_cannot_be_read_is_kept_and_says_nothing() -> None:
    good = encode(a_transaction("t-1"))

    found = rows(TRANSACTIONS, [b"{", good, None, b"\xff", good])

    assert found["value"].to_list() == [b"{", good, None, b"\xff", good]
    assert found["transaction_id"].to_list() == [None, "t-1", None, None, "t-1"]
    assert found["amount"].to_list() == [None, 350, None, None, 350]
    assert found["offset"].to_list() == [0, 1, 2, 3, 4]


def test_nothing_but_what_cannot_be_read_is_kept_as_well() -> None:
    assert rows(LABELS, [b"", None])["label_id"].to_list() == [None, None]


def test_a_dead_letter_says_what_its_headers_say_and_keeps_them() -> None:
    letter = a_dead_letter()
    headers = [(name, str(value).encode()) for name, value in letter.headers()]

    first, second = rows(DEAD_LETTERS, [b"{", b"{"], [headers, [("due", b"1")]]).rows(named=True)

    assert (first["error"], first["source_topic"], first["source_partition"], first["source_offset"]) == (
        "not-json", "transactions", 1, 77,
    )  # fmt: skip
    assert first["found_at"] == NOON
    assert DeadLetter.from_headers([(one["key"], one["value"]) for one in first["headers"]]) == letter
    assert second["error"] is None
    assert second["headers"] == [{"key": "due", "value": b"1"}]


@examples(60)
@given(
    st.lists(
        st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),
        min_size=1,
    ),
    st.integers(-23 * 60, 23 * 60),
)
def test_a_moment_is_kept_to_the_microsecond_with_its_offset(moments: list[datetime], minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    transactions = [a_transaction(occurred_at=moment.replace(tzinfo=zone)) for moment in moments]

    found = rows(TRANSACTIONS, [encode(one) for one in transactions])

    assert found["occurred_at"].dt.epoch("us").to_list() == [microseconds(one.occurred_at) for one in transactions]
    assert found["utc_offset"].unique().to_list() == [minutes]


ODD_LETTERS: dict[str, dict[str, bytes]] = {
    "a partition beyond 32 bits": {"partition": b"99999999999"},
    "an offset beyond 64 bits": {"offset": b"9" * 40},
    "an attempt beyond 32 bits": {"attempt": b"9" * 20},
    "the year 1": {"at": b"0001-01-01T00:00:00+14:00"},
    "a time of no zone": {"at": b"0001-01-01T00:00:00"},
}


@pytest.mark.parametrize("odd", ODD_LETTERS.values(), ids=ODD_LETTERS)
def test_a_foreign_dead_letter_costs_itself_and_is_named(odd: dict[str, bytes]) -> None:
    sound = a_dead_letter().headers()
    foreign = [(name, odd.get(name, value)) for name, value in sound]
    found: list[int] = []
    some = Arrived(
        partitions=[0] * 3, offsets=[5, 6, 7], timestamps=[0] * 3, keys=[None] * 3, values=[b"1", b"2", b"3"],
        headers=[sound, foreign, sound],
    )  # fmt: skip

    table = rows_of(DEAD_LETTERS, some, NO_REGISTRY, lambda number, _: found.append(number))

    assert table["value"].to_list() == [b"1", b"2", b"3"]
    assert table["error"].to_list()[::2] == ["not-json", "not-json"]
    assert table["offset"].to_list() == [5, 6, 7]
    assert found in ([1], []), "where the columns take it, it says what it says"
    if found:
        assert table["error"].to_list()[1] is None


@pytest.mark.parametrize("at", [-(2**63), -1, 2**63 - 1, 253_402_300_800_000])
def test_a_record_of_no_time_at_all_is_archived_all_the_same(at: int) -> None:
    some = Arrived(partitions=[0], offsets=[0], timestamps=[at], keys=[None], values=[b"?"])
    assert rows_of(TRANSACTIONS, some, NO_REGISTRY)["value"].to_list() == [b"?"]


@pytest.mark.parametrize(
    "odd", [{"source": {"partition": 2**40, "offset": 0}}, {"source": {"partition": 0, "offset": 2**70}},
            {"folded": {"labels": 2**66}}, {"occurred_at": "0001-01-01T00:00:00+14:00"}],
)  # fmt: skip
def test_a_foreign_verdict_costs_itself(odd: dict[str, Any]) -> None:
    sound = json.loads(next(path for path, topic in GOLDEN if topic is VERDICTS).read_bytes())
    values = [json.dumps(one).encode() for one in (sound, sound | odd, sound)]

    table = rows(VERDICTS, values)

    assert table["value"].to_list() == values
    assert table["transaction_id"].to_list()[::2] == [sound["transaction_id"]] * 2
