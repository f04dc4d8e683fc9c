"""The published JSON Schemas and the decoders agree on what a message is."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from schemas.errors import BadMessage, Fault
from schemas.json_schema import FOLDER, schemas, texts
from schemas.label import decode_label
from schemas.transaction import decode_transaction
from schemas.verdict import decode_alert, decode_explanation, decode_verdict
from tests.builders import a_dead_letter
from tests.examples import examples
from tests.unit.test_golden_examples import EXAMPLES, HEADERS, content

DECODERS: dict[str, Callable[[bytes | None], Any]] = {
    "transaction": decode_transaction,
    "label": decode_label,
    "verdict": decode_verdict,
    "alert": decode_alert,
    "explanation": decode_explanation,
}
SCHEMAS = schemas()
VALIDATORS = {name: Draft202012Validator(schema, format_checker=FormatChecker()) for name, schema in SCHEMAS.items()}


def test_the_published_schemas_are_made_from_the_messages() -> None:
    assert {path: path.read_text() for path in FOLDER.iterdir()} == texts(), "python -m schemas.json_schema --write"


@pytest.mark.parametrize("name", VALIDATORS)
def test_a_schema_is_one(name: str) -> None:
    schema = json.loads((FOLDER / f"{name}.json").read_text())

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["description"]


def kind_of(example: str) -> str:
    return next(kind for kind in [*VALIDATORS, "activity"] if example.removeprefix("v1/").startswith(kind))


@pytest.mark.parametrize("name", [name for name in EXAMPLES | HEADERS if kind_of(name) != "activity"])
def test_the_examples_are_valid(name: str) -> None:
    VALIDATORS[kind_of(name)].validate(json.loads(content(name)))


@pytest.mark.parametrize("fault", Fault)
def test_the_headers_that_a_worker_writes_are_valid(fault: Fault) -> None:
    headers = a_dead_letter(fault=fault, detail="ä" * 5_000).headers()

    VALIDATORS["dead-letter-headers"].validate(dict(headers))
    assert SCHEMAS["dead-letter-headers"]["required"] == [name for name, _ in headers]


# Messages that are right, and messages with something else in some place.

PLACES: dict[str, list[tuple[str | int, ...]]] = {
    name: [
        *((field,) for field in schema["properties"]),
        ("verdict", "outcome"),
        ("transaction", "attributes"),
        ("reasons", 0),
        ("reasons", 0, "value"),
        ("reasons", 0, "text"),
        ("attributes", "tip_rate"),
        ("source", "offset"),
        ("folded", "activity"),
        ("flags", 0),
        ("unheard of",),
    ]
    for name, schema in SCHEMAS.items()
}
OTHERS = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 91, 10**12, 10**12 + 1, 0.5, -0.25, "", "x", "EUR", "eur", "EURO", "BE", "BE\n",
        "x" * 64, "x" * 65, "x" * 128, "x" * 129, "analyst", "approve", "pending", "late", [], [1], ["late"], {}, {"a": 1},
        {"a": [1]}, {"a": "x", "b": True, "c": 0.5}, {"partition": 0, "offset": 1}, {"labels": 3},
        "2026-03-02T12:00:00Z", "2026-03-02t12:00:00.5z", "2026-03-02T12:00:00", "2026-03-02T12:00:00+02:00",
        "2026-03-02T12:00:00+24:00", "2026-03-02T25:00:00Z", "2026-02-30T12:00:00Z", "2026-03-02", "2026-03-02T12:00Z",
        "2026-03-02T12:00:00-23:59", "2026-03-02T12:00:00.Z",
    ]
) | st.text("aZ9 -:é", max_size=30) | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9).filter(
    lambda x: not x.is_integer()
)  # fmt: skip
"""Without what JSON Schema can't tell apart: see schemas/json_schema.py, and the tests below."""
GONE = ...


def changed(document: Any, place: tuple[str | int, ...], value: Any) -> None:
    """Put `value` there, if there is such a place."""
    for step in place[:-1]:
        inside = isinstance(document, dict) and step in document
        inside |= isinstance(document, list) and isinstance(step, int) and step < len(document)
        if not inside:
            return
        document = document[step]
    last = place[-1]
    if isinstance(document, list) and isinstance(last, int) and last < len(document):
        document[last] = None if value is GONE else value
    elif isinstance(document, dict) and value is GONE:
        document.pop(last, None)
    elif isinstance(document, dict):
        document[str(last)] = value


def accepts(kind: str, document: Any) -> bool:
    try:
        DECODERS[kind](json.dumps(document).encode())
    except BadMessage:
        return False
    return True


@pytest.mark.parametrize("kind", DECODERS)
def test_what_the_schema_accepts_the_decoder_accepts_and_the_other_way_round(kind: str) -> None:
    starts = [name for name in EXAMPLES if kind_of(name) == kind]
    outcomes = set()

    @examples(300)
    @given(
        st.sampled_from(starts), st.lists(st.tuples(st.sampled_from(PLACES[kind]), OTHERS | st.just(GONE)), max_size=2)
    )
    def agree(start: str, changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
        document = json.loads(content(start))
        for place, value in changes:
            changed(document, place, deepcopy(value))
        valid = VALIDATORS[kind].is_valid(document)
        outcomes.add(valid)
        assert valid == accepts(kind, document), document

    agree()
    assert outcomes == {True, False}


@pytest.mark.parametrize("kind", DECODERS)
def test_no_field_may_be_left_out_that_the_schema_requires(kind: str) -> None:
    document = json.loads(content(next(name for name in EXAMPLES if kind_of(name) == kind)))
    for name in SCHEMAS[kind]["required"]:
        less = {key: value for key, value in document.items() if key != name}
        assert not VALIDATORS[kind].is_valid(less)
        assert not accepts(kind, less)


@pytest.mark.parametrize(
    ("field", "value", "valid"),
    [
        ("account_id", "é" * 128, True),  # 256 bytes
        ("amount", 350.0, True),
        ("occurred_at", "2026-03-02T12:00:00+0100", False),
        ("occurred_at", "2026-03-02 12:00:00Z", False),
    ],
)
def test_where_the_two_differ_is_known(field: str, value: Any, valid: bool) -> None:
    """As schemas/json_schema.py says; a message that either refuses is none to rely on."""
    document = json.loads(content("v1/transaction-minimal")) | {field: value}

    assert VALIDATORS["transaction"].is_valid(document) is valid
    assert accepts("transaction", document) is not valid
