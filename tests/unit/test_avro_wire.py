"""A message in Avro is the message that it would be in JSON, whatever its writer's schema; or it is said what is wrong."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from fastavro import parse_schema
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import Rules
from features.facts import of_transactions
from schemas.avro_schema import texts
from schemas.avro_wire import FOLDER, Unusable, WriterSchema, _Measure, our_schema
from schemas.errors import BadMessage, Fault
from schemas.label import Label, LabelSource, decode_label
from schemas.transaction import Transaction, decode_transaction
from schemas.wire import MAX_AMOUNT, encode
from tests.avro import Known, Schema, framed, in_avro, record_of
from tests.builders import a_label, a_transaction
from tests.examples import examples
from tests.unit.test_wire import labels, transactions, wrong_with

OURS = our_schema("transaction")
FIELDS: dict[str, Schema] = {field["name"]: field for field in OURS["fields"]}
GOOD: dict[str, Any] = {
    "transaction_id": "t-1",
    "account_id": "alice",
    "amount": 350,
    "currency": "EUR",
    "occurred_at": "2026-03-02T13:00:00+01:00",
}
BARE = {name: FIELDS[name]["type"] for name in GOOD}
"""The schema of a producer that knows of nothing else: type by field."""


def schema(types: dict[str, Schema], name: str = "Transaction") -> Schema:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": kind} for one, kind in types.items()]}


def by(types: dict[str, Schema], **fields: Any) -> Transaction:
    """What is read of a message with these fields, written by a schema of these types."""
    value = framed(7, record_of(schema(types), GOOD | fields))
    return decode_transaction(value, Known({7: json.dumps(schema(types))}))


def bad_by(types: dict[str, Schema], **fields: Any) -> tuple[Fault, str]:
    with pytest.raises(BadMessage) as bad:
        by(types, **fields)
    return bad.value.fault, bad.value.detail


def of_record(record: bytes, types: dict[str, Schema] = BARE) -> tuple[Fault, str]:
    """What is wrong with these bytes."""
    with pytest.raises(BadMessage) as bad:
        decode_transaction(framed(7, record), Known({7: json.dumps(schema(types))}))
    return bad.value.fault, bad.value.detail


READ: Transaction = decode_transaction(json.dumps(GOOD).encode())
KNOWN = Known({1: json.dumps(OURS), 2: json.dumps(our_schema("label"))})


# What we ship.


def test_the_published_schemas_are_made_from_the_messages() -> None:
    assert {path: path.read_text() for path in FOLDER.iterdir()} == texts(), "python -m schemas.avro_schema --write"


def test_each_field_of_a_message_is_one_of_its_schema_and_absent_by_default_where_it_may_be() -> None:
    for kind in (Transaction, Label):
        fields = our_schema(kind.__name__.lower())["fields"]
        described = msgspec.structs.fields(kind)
        assert [field["name"] for field in fields] == [field.encode_name for field in described]
        assert ["default" not in field for field in fields] == [field.required for field in described]


# The same message in both.

long = st.integers(-(2**63), 2**63 - 1)


def written_in_avro(message: Transaction | Label) -> Transaction | Label:
    if isinstance(message, Transaction):
        return decode_transaction(in_avro(message, 1), KNOWN)
    return decode_label(in_avro(message, 2), KNOWN)


@examples(200)
@given(transactions | labels)
def test_a_message_in_avro_is_the_message_that_it_is_in_json_down_to_its_canonical_bytes(
    message: Transaction | Label,
) -> None:
    if isinstance(message, Transaction):
        in_64_bits = {name: value for name, value in message.attributes.items() if not _beyond_64_bits(value)}
        message = msgspec.structs.replace(message, attributes=in_64_bits)
    read = written_in_avro(message)

    assert read == message
    assert encode(read) == encode(message)


def _beyond_64_bits(value: object) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def test_the_content_that_tells_a_duplicate_from_an_id_used_again_is_the_same_in_both() -> None:
    one = a_transaction(
        counterparty_id="bakery", latitude=50.85, attributes={"whole": 1, "part": 1.0, "yes": True, "said": "1"}
    )
    both = [decode_transaction(encode(one)), decode_transaction(in_avro(one), KNOWN)]

    facts = of_transactions(((transaction, 0) for transaction in both), Rules())

    assert facts[0] == facts[1]


def test_the_offset_of_a_time_is_kept_for_the_local_hour() -> None:
    tokyo = timezone(timedelta(hours=9))
    one = a_transaction(occurred_at=datetime(2026, 3, 2, 23, 30, tzinfo=tokyo))
    read = decode_transaction(in_avro(one), KNOWN)

    assert (read.occurred_at.hour, read.occurred_at.utcoffset()) == (23, timedelta(hours=9))


# Older and newer writers.


def test_a_writer_that_knows_only_what_is_required_leaves_the_rest_out() -> None:
    assert by(BARE) == READ


def test_what_a_newer_writer_has_added_is_ignored_whatever_it_is() -> None:
    basket = schema({"items": {"type": "array", "items": "string"}, "tip": ["null", "long"]}, "Basket")
    mood = {"type": "enum", "name": "Mood", "symbols": ["good", "bad"]}
    more = {"basket": {"items": ["bread", "milk"], "tip": 3}, "mood": "bad", "loyalty": b"\xff\xfe"}

    assert by({"mood": mood} | BARE | {"basket": basket, "loyalty": "bytes"}, **more) == READ


def test_the_order_of_fields_and_the_name_of_the_record_are_the_writers_own() -> None:
    backwards = schema(dict(reversed(BARE.items())), "com.example.PaymentEvent")
    value = framed(9, record_of(backwards, GOOD))

    assert decode_transaction(value, Known({9: json.dumps(backwards)})) == READ


@pytest.mark.parametrize(
    ("types", "fields"),
    [
        ({"amount": "int"}, {}),
        ({"amount": ["null", "long"]}, {}),
        ({"account_id": "bytes"}, {"account_id": b"alice"}),
        ({"account_id": {"type": "string", "avro.java.string": "String"}}, {}),
    ],
    ids=str,
)
def test_types_are_promoted_as_avro_says(types: dict[str, Schema], fields: dict[str, Any]) -> None:
    assert by(BARE | types, **fields) == READ


def test_optional_fields_are_promoted_too() -> None:
    types = {"channel": "string", "latitude": "int", "longitude": ["null", "float"], "country": ["string", "null"]}
    read = by(BARE | types, channel="web", latitude=51, longitude=4.5, country=None)

    assert (read.channel, read.latitude, read.longitude, read.country) == ("web", 51.0, 4.5, None)


def test_attributes_keep_what_each_was() -> None:
    a_map = {"type": "map", "values": ["double", "string", "boolean"]}
    read = by(BARE | {"attributes": a_map}, attributes={"size": 1.0, "note": "1", "gift": True})
    assert read.attributes == {"size": 1.0, "note": "1", "gift": True}
    assert [type(value) for value in read.attributes.values()] == [float, str, bool]
    assert by(BARE | {"attributes": {"type": "map", "values": "int"}}, attributes={"n": 1}).attributes == {"n": 1}


def test_null_and_empty_text_are_missing_in_avro_too() -> None:
    a_map = {"type": "map", "values": ["null", "string"]}
    read = by(BARE | {"attributes": a_map, "channel": "string"}, attributes={"a": None, "b": "", "c": "x"}, channel="")

    assert read == msgspec.structs.replace(READ, attributes={"c": "x"})
    assert by(BARE | {"attributes": ["null", a_map]}, attributes=None) == READ


def test_a_uuid_is_its_text() -> None:
    ident = str(uuid.UUID(int=7))
    assert by(BARE | {"transaction_id": {"type": "string", "logicalType": "uuid"}}, transaction_id=ident) == (
        msgspec.structs.replace(READ, transaction_id=ident)
    )


# The table of bad input: the same rules, the same words.


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": -1},
        {"amount": MAX_AMOUNT + 1},
        {"currency": "eur"},
        {"currency": ""},
        {"occurred_at": "2026-03-02T12:00:00"},
        {"occurred_at": "2026-02-30T12:00:00Z"},
        {"occurred_at": "yesterday"},
        {"country": "Belgium"},
        {"channel": "x" * 65},
        {"latitude": 90.5},
        {"ip": "1" * 46},
        {"transaction_id": ""},
        {"account_id": "x" * 129},
        {"account_id": "ü" * 65},
        {"device_id": "x" * 129},
    ],
    ids=str,
)
def test_what_is_wrong_in_json_is_wrong_in_avro_in_the_same_words(fields: dict[str, Any]) -> None:
    in_json = wrong_with(json.dumps(GOOD | fields).encode())
    in_avro = wrong_with(framed(1, record_of(OURS, GOOD | fields)), lambda value: decode_transaction(value, KNOWN))

    assert (in_avro.fault, in_avro.detail) == (in_json.fault, in_json.detail)
    assert f"`$.{next(iter(fields))}`" in in_avro.detail


def test_a_label_is_held_to_its_rules_too() -> None:
    record = msgspec.to_builtins(a_label()) | {"source": "hearsay"}
    bad = wrong_with(framed(2, record_of(our_schema("label"), record)), lambda value: decode_label(value, KNOWN))

    assert (bad.fault, "`$.source`" in bad.detail) == (Fault.OUT_OF_RANGE, True)
    assert written_in_avro(a_label(source=LabelSource.RULE)) == a_label(source=LabelSource.RULE)


@pytest.mark.parametrize(
    ("types", "fields", "fault", "named"),
    [
        ({"amount": ...}, {}, Fault.MISSING_FIELD, "`amount`"),
        ({"occurred_at": ...}, {}, Fault.MISSING_FIELD, "`occurred_at`"),
        ({"amount": "double"}, {"amount": 3.0}, Fault.WRONG_TYPE, "Expected `long`, got `double` of schema 7 - at `$.amount`"),
        ({"amount": "string"}, {"amount": "350"}, Fault.WRONG_TYPE, "`$.amount`"),
        ({"amount": ["null", "long"]}, {"amount": None}, Fault.WRONG_TYPE, "`$.amount`"),
        (
            {"occurred_at": {"type": "long", "logicalType": "timestamp-micros"}}, {"occurred_at": 1_772_452_800_000_000},
            Fault.WRONG_TYPE, "`$.occurred_at`",
        ),
        ({"account_id": "bytes"}, {"account_id": b"\xff"}, Fault.INVALID_UTF8, "`$.account_id`"),
        ({"latitude": "double"}, {"latitude": float("nan")}, Fault.OUT_OF_RANGE, "`$.latitude` is nan"),
        (
            {"attributes": {"type": "map", "values": "double"}}, {"attributes": {"size": float("-inf")}},
            Fault.OUT_OF_RANGE, "`$.attributes.size` is -inf",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_writers_schema_makes_of_it_is_named_by_its_field(
    types: dict[str, Schema], fields: dict[str, Any], fault: Fault, named: str
) -> None:
    kept = {name: kind for name, kind in (BARE | types).items() if kind is not ...}
    found, detail = bad_by(kept, **fields)

    assert found is fault
    assert named in detail


def test_bytes_that_are_no_record_of_their_schema_are_not_avro() -> None:
    good = record_of(schema(BARE), GOOD)
    for cut in range(len(good)):
        assert of_record(good[:cut])[0] is Fault.NOT_AVRO
    assert of_record(good + b"\0") == (Fault.NOT_AVRO, "the bytes are no record of schema 7: 1 are left over")
    assert of_record(b"\x01" + good[1:])[0] is Fault.NOT_AVRO, "a string of -1 bytes"
    assert of_record(good, BARE | {"channel": ["null", "string"]})[0] is Fault.NOT_AVRO
    assert of_record(good + b"\x09", BARE | {"channel": ["null", "string"]})[0] is Fault.NOT_AVRO, "a branch that isn't"


@pytest.mark.parametrize("size", range(1, 5))
def test_a_head_that_is_cut_off_is_not_avro_whether_or_not_there_is_a_registry(size: int) -> None:
    for decode in (decode_transaction, decode_label, lambda value: decode_transaction(value, KNOWN)):
        assert wrong_with(b"\0\0\0\0\1"[:size], decode).fault is Fault.NOT_AVRO


def test_without_a_registry_it_is_said_which_setting_names_one() -> None:
    bad = wrong_with(in_avro(a_transaction(), 70_000))

    assert bad.fault is Fault.NO_REGISTRY
    assert "70000" in bad.detail
    assert "FRAUD_SCHEMA_REGISTRY_URL" in bad.detail


@examples(300)
@given(st.data())
def test_no_noise_behind_a_good_head_raises_anything_but_bad_message(data: st.DataObject) -> None:
    full = a_transaction(counterparty_id="bakery", channel="web", attributes={"a": 1, "b": "x", "c": 2.5})
    record = in_avro(full)[5:]
    if data.draw(st.booleans()):
        record = data.draw(st.binary(max_size=80))
    else:
        at, gone = data.draw(st.integers(0, len(record))), data.draw(st.integers(0, 4))
        record = record[:at] + data.draw(st.binary(max_size=5)) + record[at + gone :]
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(repr(decode_transaction(framed(1, record), KNOWN)))
        except BadMessage as bad:
            outcomes.append(str(bad))
    assert outcomes[0] == outcomes[1]


# Writers' schemas by which nothing is read.

NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "no", "type": "null"}]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no schema"),
        ("[]", "not a record's"),
        ('"string"', "not a record's"),
        ('{"type":"record","name":"A","fields":[{"name":"a","type":"B"}]}', "no schema"),
        (json.dumps(schema(BARE | {"chain": NODE})), "'Node' within"),
        (json.dumps(schema(BARE | {"much": {"type": "array", "items": "null"}})), "takes no bytes"),
        (json.dumps(schema(BARE | {"much": {"type": "array", "items": NOTHING}})), "takes no bytes"),
        ('{"type":"record","name":"A","fields":' + "[" * 100_000, "no schema"),
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_that_could_hurt_or_is_none_is_not_read_by(text: str, why: str) -> None:
    """A few bytes would make an array of 2^60 nulls, or a million records within each other."""
    with pytest.raises(Unusable, match=why):
        WriterSchema(1, text)


def test_a_type_that_is_used_twice_is_no_type_within_itself() -> None:
    money = {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}
    types = BARE | {"fee": money, "tips": {"type": "array", "items": "Money"}}

    assert by(types, fee={"cents": 1}, tips=[{"cents": 2}]) == READ


def doubling(levels: int, leaf: str) -> Schema:
    """A record that holds twice the one below it: 2 ** levels leaves in hundreds of letters."""
    inner: Schema = {"type": "record", "name": "R0", "fields": [{"name": "leaf", "type": leaf}]}
    for level in range(levels):
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": f"R{level}"}]
        inner = {"type": "record", "name": f"R{level + 1}", "fields": fields}
    return inner


class Counted(dict[str, Any]):
    """Named types, and how often they were looked at."""

    looked_at = 0

    def __getitem__(self, name: str) -> Any:
        self.looked_at += 1
        assert self.looked_at < 1_000, "each named type is measured once"
        return super().__getitem__(name)


@pytest.mark.parametrize("leaf", ["int", ["null", "string"]])
def test_each_named_type_is_measured_once_however_often_it_is_named(leaf: Any) -> None:
    """22 levels took 14 seconds, and each more doubled it."""
    named = Counted()
    parsed = parse_schema(doubling(60, leaf), named)
    size = _Measure(named).of(parsed)

    assert (size.least, size.depth) == (2**60, 61)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps(schema(BARE | {"much": doubling(13, "null")})), "5,000 values more than 8 a byte"),
        (json.dumps(schema(BARE | {"deep": doubling(64, "int")})), "nest deeper than 64"),
        (json.dumps(schema(BARE | {"much": {"type": "map", "values": doubling(4, "null")}})), "maps that may hold more"),
        (json.dumps(schema(BARE | {"much": {"type": "array", "items": [doubling(4, "null")]}})), "arrays that may hold more"),
        (json.dumps(schema(BARE) | {"doc": "x" * (1 << 18)}), "characters long, at most 262,144 are read"),
        (
            '{"type":"record","name":"A","fields":[{"name":"a","type":' + '{"type":' * 300 + '"int"' + "}" * 300 + "}]}",
            "nest deeper than 200",
        ),
    ],
    ids=[*"123456"],
)  # fmt: skip
def test_a_schema_by_which_a_few_bytes_would_take_long_is_refused_with_its_bound(text: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        WriterSchema(1, text)


def test_a_wide_schema_as_people_have_them_is_read_by() -> None:
    wide: dict[str, Schema] = {f"V{n}": ["null", "double"] for n in range(1_000)}
    kept = {"history": {"type": "array", "items": schema(wide, "Line")}, "last": ["null", "Line"]}

    assert by(BARE | kept, history=[dict.fromkeys(wide, 1.5)] * 20, last=None) == READ
