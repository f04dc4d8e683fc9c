"""Messages in Avro, in Confluent's wire format: the magic byte 0, four bytes that name the writer's schema, the record.

The record is resolved against our own schema (`schemas/avro/`) by Avro's rules, then held to the very rules of JSON: its
values are written as JSON and read by the decoder that reads JSON.  So a transaction in Avro and the same in JSON are one
transaction, down to its canonical bytes, and what is wrong with either is called the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from schemas.errors import BadMessage, Fault
from schemas.wire import MAX_DEPTH, LenientDecoder, Message, nests_deeper

MAGIC = 0
"""No JSON begins with it."""
HEAD = 5
"""Bytes before the record."""
MAX_SCHEMA_LENGTH = 1 << 18
"""Characters of a writer's schema."""
MAX_SCHEMA_DEPTH = 64
"""Records within records, by whatever names they are called."""
VALUES_A_BYTE = 8
"""What a byte of a message may make us read: what takes no bytes (a null, an empty record) is read all the same."""
MOST_EXCESS = 5_000
"""Values of a record beyond that."""
FOLDER = Path(__file__).resolve().parent / "avro"
Schema = dict[str, Any]


class Unusable(Exception):
    """A schema by which no message of ours can be read; says why."""


class Writers(Protocol):
    """The schemas that messages were written by."""

    def schema(self, schema_id: int) -> WriterSchema:
        """Raises BadMessage where there is none of that id, RegistryUnavailable where that is not known."""
        ...

    def unknown(self, schema_ids: Iterable[int | None]) -> set[int]:
        """Those that `schema` would have to ask for."""
        ...

    def learn(self, schema_ids: Iterable[int]) -> None:
        """Ask for them now, that `schema` need not.  Raises RegistryUnavailable."""
        ...

    def check(self) -> None:
        """Is there an answer now to what was not answered?  Raises RegistryUnavailable."""
        ...


class NoRegistry:
    """Where none is set."""

    def schema(self, schema_id: int) -> WriterSchema:
        """Raises BadMessage."""
        raise BadMessage(
            Fault.NO_REGISTRY,
            f"it begins with the magic byte of Avro and schema {schema_id}, and no registry is set "
            "(setting FRAUD_SCHEMA_REGISTRY_URL)",
        )

    def unknown(self, _schema_ids: Iterable[int | None]) -> set[int]:
        """None: there is nobody to ask."""
        return set()

    def learn(self, schema_ids: Iterable[int]) -> None:
        """Nothing."""

    def check(self) -> None:
        """There is."""


NO_REGISTRY = NoRegistry()


@cache
def our_schema(name: str) -> Schema:
    """What we read by, and producers may write by: `transaction`, `label`."""
    schema: Schema = json.loads((FOLDER / f"{name}.avsc").read_text())
    return schema


def schema_id(value: bytes | None) -> int | None:
    """Which schema a message was written by; None: it isn't in Avro, or is cut off before it says so."""
    return int.from_bytes(value[1:HEAD]) if value and value[0] == MAGIC and len(value) >= HEAD else None


def decode(decoder: LenientDecoder[Message], name: str, value: bytes, writers: Writers) -> Message:
    """The message in `value`, which begins with the magic byte; `decoder` reads the same in JSON, `name` is our schema's.

    Raises BadMessage, naming what is wrong and where, and what `writers` raises.
    """
    written_by = schema_id(value)
    if written_by is None:
        raise BadMessage(
            Fault.NOT_AVRO, f"it is cut off after {len(value)} bytes: the magic byte and a schema's id are {HEAD}"
        )
    record = writers.schema(written_by).read(name, value)
    _check_finite(record, "$")
    return decoder.decode(msgspec.json.encode(record))


def _check_finite(record: dict[str, Any], where: str) -> None:
    """JSON has no such numbers, and would be written without them."""
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadMessage(Fault.OUT_OF_RANGE, f"`{where}.{name}` is {value}: a finite number is expected")
        if isinstance(value, dict):
            _check_finite(value, f"{where}.{name}")


class WriterSchema:
    """A schema that messages were written by."""

    def __init__(self, schema_id: int, text: str) -> None:
        """Raises Unusable."""
        self.schema_id = schema_id
        named: dict[str, Any] = {}
        if len(text) > MAX_SCHEMA_LENGTH:
            raise Unusable(f"is {len(text):,} characters long, at most {MAX_SCHEMA_LENGTH:,} are read")
        if nests_deeper(text.encode(errors="replace"), MAX_DEPTH):
            raise Unusable(f"is no schema that is read: arrays and objects nest deeper than {MAX_DEPTH} in it")
        try:
            parsed: Any = parse_schema(_without_logical_types(json.loads(text)), named)
            if not isinstance(parsed, dict) or parsed["type"] != "record":
                raise Unusable("is not a record's")
            _Measure(named).of(parsed)
        except Unusable:
            raise
        except Exception as error:  # whatever fastavro's code happens to, over what anybody may have registered
            raise Unusable(f"is no schema of Avro's: {error!r:.200}") from error
        self._parsed: Schema = parsed
        self._readers: dict[str, _Readers] = {}

    def read(self, name: str, value: bytes) -> dict[str, Any]:
        """The record in `value` as our schema `name` has it.  Raises BadMessage."""
        readers = self._readers.get(name)
        if readers is None:
            readers = self._readers[name] = _Readers.of(our_schema(name), self._parsed["name"])
        bytes_ = BytesIO(value)
        bytes_.seek(HEAD)
        try:
            record: Any = schemaless_reader(bytes_, self._parsed, readers.whole)
        except (SchemaResolutionError, UnicodeDecodeError) as error:
            raise self._named(readers, value, error) from error
        except Exception as error:  # EOFError, IndexError, whatever its code happens to
            raise self._not_avro(str(error) or "they end too early") from error
        if left := len(value) - bytes_.tell():
            raise self._not_avro(f"{left} are left over")
        return record  # type: ignore[no-any-return]

    def _not_avro(self, why: str) -> BadMessage:
        return BadMessage(Fault.NOT_AVRO, f"the bytes are no record of schema {self.schema_id}: {why}")

    def _named(self, readers: _Readers, value: bytes, error: Exception) -> BadMessage:
        """With the field, which fastavro doesn't name: the first that can't be read without the others either."""
        for field, reader in readers.fields.items():
            bytes_ = BytesIO(value)
            bytes_.seek(HEAD)
            try:
                schemaless_reader(bytes_, self._parsed, reader)
            except UnicodeDecodeError as bad:
                return BadMessage(Fault.INVALID_UTF8, f"`$.{field}` is no UTF-8: {bad.reason}")
            except SchemaResolutionError:
                return self._unresolved(field, reader["fields"][0]["type"])
            except Exception as bad:
                return self._not_avro(str(bad) or "they end too early")
        return self._not_avro(str(error))

    def _unresolved(self, field: str, expected: Any) -> BadMessage:
        for written in self._parsed["fields"]:
            if written["name"] == field:
                said = f"Expected {_shown(expected)}, got {_shown(written['type'])} of schema {self.schema_id} - at `$.{field}`"
                return BadMessage(Fault.WRONG_TYPE, said)
        return BadMessage(Fault.MISSING_FIELD, f"schema {self.schema_id} is missing required field `{field}`")


class _Readers(NamedTuple):
    """Our schema, ready for one writer's record."""

    whole: Any
    fields: dict[str, Any]
    """Of each field, as if there were no other."""

    @classmethod
    def of(cls, ours: Schema, name: str) -> _Readers:
        """`name` is the writer's: what a record is called does not matter, only what it holds."""

        def reader(fields: list[Schema]) -> Any:
            return parse_schema({"type": "record", "name": name, "fields": fields}, {})

        return cls(reader(ours["fields"]), {field["name"]: reader([field]) for field in ours["fields"]})


def _shown(kind: Any) -> str:
    return f"`{kind if isinstance(kind, str) else json.dumps(kind):.100}`"


def _without_logical_types(schema: Any) -> Any:
    """A UUID is then its text.  None of the others is a type of ours: a timestamp has no offset from UTC."""
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return [_without_logical_types(one) for one in schema] if isinstance(schema, list) else schema


_LEAST = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}


class _Size(NamedTuple):
    """What values of a schema are made of."""

    least: int
    """Bytes that one takes at least."""
    excess: int
    """How many values it holds, itself included, beyond VALUES_A_BYTE for each of its bytes: at most."""
    depth: int
    """Records within records."""


class _Measure:
    """The sizes of a schema's types, each named type measured once.

    Raises Unusable for what would let a few bytes fill the stack, the memory or a minute: records within themselves or too
    deep within others, and what holds many values in hardly any bytes.
    """

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._known: dict[str, _Size] = {}
        self._within: set[str] = set()

    def of(self, schema: Any) -> _Size:  # noqa: PLR0911 - a table
        match schema:
            case list():
                branches = [self.of(one) for one in schema] or [_Size(0, 0, 0)]
                least, excess, depth = (list(one) for one in zip(*branches, strict=True))
                return self._bounded(1 + min(least), max(excess) + 1 - VALUES_A_BYTE, max(depth))
            case str() if schema in _LEAST:
                return self._bounded(_LEAST[schema], 1 - VALUES_A_BYTE * _LEAST[schema], 0)
            case str() if schema in self._within:
                raise Unusable(f"has records {schema!r} within records {schema!r}")
            case str():
                if schema not in self._known:
                    self._known[schema] = self.of(self._named[schema])
                return self._known[schema]
            case {"type": "record", "name": name, "fields": fields}:
                self._within.add(name)
                held = [self.of(field["type"]) for field in fields]
                self._within.discard(name)
                self._known[name] = self._bounded(
                    sum(one.least for one in held),
                    1 + sum(one.excess for one in held),
                    1 + max((one.depth for one in held), default=0),
                )
                return self._known[name]
            case {"type": "fixed", "size": size}:
                return self._bounded(int(size), 1 - VALUES_A_BYTE * int(size), 0)
            case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
                kind, item = schema["type"], self.of(inner)
                key = kind == "map"  # its length takes a byte
                if item.least + key == 0:
                    raise Unusable(f"has an {kind} of what takes no bytes")
                if item.excess - VALUES_A_BYTE * key > 0:
                    raise Unusable(f"has {kind}s that may hold more than {VALUES_A_BYTE} values a byte")
                return self._bounded(1, 1 - VALUES_A_BYTE, item.depth)
            case {"type": "enum"}:
                return self._bounded(1, 1 - VALUES_A_BYTE, 0)
            case _:
                return self.of(schema["type"])

    @staticmethod
    def _bounded(least: int, excess: int, depth: int) -> _Size:
        if excess > MOST_EXCESS:
            raise Unusable(f"has records that may hold {MOST_EXCESS:,} values more than {VALUES_A_BYTE} a byte")
        if depth > MAX_SCHEMA_DEPTH:
            raise Unusable(f"has records that nest deeper than {MAX_SCHEMA_DEPTH}")
        return _Size(least, excess, depth)
