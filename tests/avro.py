"""Messages in Avro, as a producer's serializer writes them: by fastavro, and by nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import msgspec
from fastavro import parse_schema, schemaless_writer

from schemas.avro_wire import WriterSchema, our_schema
from schemas.errors import BadMessage, Fault
from schemas.label import Label
from schemas.transaction import Transaction

Schema = Any


def record_of(schema: Schema, fields: Mapping[str, Any]) -> bytes:
    """The record alone."""
    written = BytesIO()
    schemaless_writer(written, parse_schema(schema, {}), fields)
    return written.getvalue()


def framed(schema_id: int, record: bytes) -> bytes:
    """Behind the magic byte and the schema's id."""
    return b"\0" + schema_id.to_bytes(4) + record


def in_avro(message: Transaction | Label, schema_id: int = 1) -> bytes:
    """By our own schema."""
    name = type(message).__name__.lower()
    return framed(schema_id, record_of(our_schema(name), msgspec.to_builtins(message)))


class Known:
    """Writers' schemas that need no registry."""

    def __init__(self, schemas: Mapping[int, str]) -> None:
        self._schemas = {schema_id: WriterSchema(schema_id, text) for schema_id, text in schemas.items()}

    def schema(self, schema_id: int) -> WriterSchema:
        """See Writers."""
        if schema_id not in self._schemas:
            raise BadMessage(Fault.UNKNOWN_SCHEMA, f"schema {schema_id}")
        return self._schemas[schema_id]

    def unknown(self, _schema_ids: object) -> set[int]:
        """See Writers."""
        return set()

    def learn(self, schema_ids: object) -> None:
        """See Writers."""

    def check(self) -> None:
        """See Writers."""
