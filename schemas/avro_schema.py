"""The input messages as Avro schemas, for producers: `python -m schemas.avro_schema --write`.

Made from the types that the worker decodes with, into `schemas/avro/`; a test holds the two equal.  What Avro can't say
(lengths, ranges, currencies, the form of a time) is checked as it is for JSON; schemas/json/ says it.

* Times are strings in RFC 3339, offset included, as in JSON: a payment's local hour counts, and Avro's timestamps have no
  offset.
* What may be absent is a union with null, null by default: older and newer writers resolve.
* A label's source is a string, not an enum: a value that we don't know is then named, not unreadable.
* `attributes` has longs besides doubles, so that 1 stays 1, and the same transaction in JSON and in Avro is the same.  Like
  all that may be absent they may be null, each of them and all together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from schemas.avro_wire import FOLDER, Schema
from schemas.json_schema import one_line, words_of_fields
from schemas.label import Label
from schemas.transaction import Transaction

NAMESPACE = "fraud_scorer.v1"
NOT_SAID = "What can't be said here (lengths, ranges, forms) stands in schemas/json/."


def schemas() -> dict[str, Schema]:
    """By the name of the file."""
    return {kind.__name__.lower(): _record(kind) for kind in (Transaction, Label)}


def texts() -> dict[Path, str]:
    """The files, as they must be."""
    return {
        FOLDER / f"{name}.avsc": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }


def _record(kind: type[msgspec.Struct]) -> Schema:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    words = words_of_fields(kind)
    return {
        "type": "record",
        "name": kind.__name__,
        "namespace": NAMESPACE,
        "doc": f"{one_line(kind.__doc__ or '')}  {NOT_SAID}",
        "fields": [_field(field, words.get(field.encode_name)) for field in described.fields],
    }


def _field(field: inspect.Field, words: str | None) -> Schema:
    said = _described(field.type)
    doc = "  ".join(part for part in (words, f"{said[0].upper()}{said[1:]}." if said else "") if part)
    made: Schema = {"name": field.encode_name, "type": _type(field.type)}
    if doc:
        made["doc"] = doc
    if not field.required:
        made["default"] = None
    return made


def _described(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=types):
            return next((said for one in types if (said := _described(one))), "")
        case inspect.Metadata(extra_json_schema=extra):
            return str((extra or {}).get("description", ""))
        case inspect.EnumType(cls=cls):
            return "one of " + ", ".join(cls.__members__[name].value for name in cls.__members__)
    return ""


_PRIMITIVES: dict[type[inspect.Type], str] = {
    inspect.NoneType: "null",
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.DateTimeType: "string",
    inspect.EnumType: "string",
    inspect.BoolType: "boolean",
}
_ORDER = list(_PRIMITIVES.values())
"""Of a union's branches: null first, for it is the default; a writer's integer is a long before it is a double."""


def _type(kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata(type=inner):
            return _type(inner)
        case inspect.UnionType(types=types):
            return sorted((_type(one) for one in types), key=_ORDER.index)
        case inspect.DictType(value_type=values):
            return ["null", {"type": "map", "values": ["null", *_type(values)]}]
    return _PRIMITIVES[type(kind)]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    stale = [path for path, text in texts().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--write" in sys.argv[1:]:
            path.write_text(texts()[path])
        print(f"{'written' if '--write' in sys.argv[1:] else 'stale'}: {path}")
    sys.exit(0 if "--write" in sys.argv[1:] or not stale else 1)
