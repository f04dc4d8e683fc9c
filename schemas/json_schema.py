"""The messages as JSON Schema (draft 2020-12), for whoever doesn't write Python: `python -m schemas.json_schema --write`.

Made from the types that the worker decodes with, into `schemas/json/`; a test holds the two equal, and another one asks the
schema and the decoder about the same messages.  What the schema accepts the decoder accepts, and the other way round, but
for what JSON Schema can't say, or says otherwise:

* ids are at most 128 bytes of UTF-8, the schema counts characters;
* 350.0 is an integer to JSON Schema, and none to the decoder; neither is a number that no double can hold (1e400);
* a currency must have a rate (setting FRAUD_RATES__XXX), a transaction or a label must not come from the future nor from
  before 1990, a label must be known no earlier than its transaction occurred, attributes have bounds (settings), its key
  must be its account and its partition the key's: the schema sees only the message, and not the settings;
* times: the decoder also takes a blank instead of the T, and an offset without a colon (+0100); it takes no leap second,
  no year 0 and nothing that rounds to the year 10000, which the schema lets pass where its reader doesn't check `format`;
* the decoder takes no arrays and objects nested deeper than 200, also in fields that it doesn't know;
* bytes that are no UTF-8, NaN, Infinity, halves of surrogate pairs: no JSON, whatever a lenient reader makes of them.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from schemas.dead_letter import ERROR, MOST_DETAIL, DeadLetter
from schemas.label import LABELS, Label
from schemas.transaction import TRANSACTIONS, Transaction
from schemas.verdict import Alert, Explanation, Verdict

FOLDER = Path(__file__).resolve().parent / "json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
NOT_SAID = (
    "What can't be said here stands in schemas/json_schema.py: bytes of ids, rates of currencies, bounds of times and "
    "attributes, keys and partitions."
)
Schema = dict[str, Any]


def schemas() -> dict[str, Schema]:
    """By the name of the file."""
    messages: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {
        "transaction": (Transaction, TRANSACTIONS.written),
        "label": (Label, LABELS.written),
        "verdict": (Verdict, Verdict),
        "alert": (Alert, Alert),
        "explanation": (Explanation, Explanation),
    }
    return {name: _of_message(name, *kinds) for name, kinds in messages.items()} | {
        "dead-letter-headers": _of_dead_letters()
    }


def texts() -> dict[Path, str]:
    """The files, as they must be."""
    return {
        FOLDER / f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }


def _of_message(name: str, kind: type[msgspec.Struct], written: type[msgspec.Struct]) -> Schema:
    made = msgspec.json.schema(written)
    definitions: dict[str, Schema] = made["$defs"]
    for title, definition in definitions.items():
        _describe(definition, _classes()[title])
    return _head(name) | definitions.pop(kind.__name__) | ({"$defs": definitions} if definitions else {})


def _head(name: str) -> Schema:
    return {"$schema": DRAFT, "$id": f"urn:fraud-scorer:v1:{name}", "$comment": NOT_SAID}


def _classes() -> dict[str, type]:
    modules = {inspect.getmodule(kind) for kind in (Transaction, Label, Alert)}
    return {name: kind for module in modules for name, kind in inspect.getmembers(module, inspect.isclass)}


def _describe(definition: Schema, kind: type) -> None:
    """With the words that stand in the source."""
    definition["description"] = one_line(kind.__doc__ or "")
    for name, words in words_of_fields(kind).items():
        if name in definition.get("properties", {}):
            field = definition["properties"][name]
            definition["properties"][name] = {"description": words} | field
            if "description" in field:  # what its type says
                definition["properties"][name]["description"] = f"{words}  {_sentence(field['description'])}"


def words_of_fields(kind: type) -> dict[str, str]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    words = {}
    for field, said in zip(body.body, body.body[1:], strict=False):
        match field, said:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                words[name] = one_line(text)
    return words


def one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _of_dead_letters() -> Schema:
    """Headers are text, whatever they say: numbers too."""
    made: Schema = msgspec.json.schema(DeadLetter)["$defs"]
    whole = {"type": "string", "pattern": "^[0-9]+$"}
    as_text = {"fault": {"enum": made["Fault"]["enum"]}, "detail": {"type": "string", "maxLength": MOST_DETAIL}}
    words = words_of_fields(DeadLetter)
    headers = {}
    for name, field in made["DeadLetter"]["properties"].items():
        said = as_text.get(name, whole if field.get("type") == "integer" else field)
        headers[ERROR if name == "fault" else name] = {"description": words[name]} | said
    headers[ERROR]["description"] = one_line(made["Fault"]["description"])
    return _head("dead-letter-headers") | {
        "title": "DeadLetterHeaders",
        "description": "Each is text in UTF-8.  The dead letter's key and value are the message's own, byte for byte.",
        "type": "object",
        "properties": headers,
        "required": [ERROR if name == "fault" else name for name in made["DeadLetter"]["required"]],
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    stale = [path for path, text in texts().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--write" in sys.argv[1:]:
            path.write_text(texts()[path])
        print(f"{'written' if '--write' in sys.argv[1:] else 'stale'}: {path}")
    sys.exit(0 if "--write" in sys.argv[1:] or not stale else 1)
