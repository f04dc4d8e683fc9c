"""Messages in Avro, as a producer with a schema registry sends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Self

import httpx
import msgspec
import polars as pl
from fastavro import parse_schema, schemaless_writer

from loadgen.target import Target
from schemas.avro_wire import MAGIC, our_schema
from schemas.encoding import Encoded, encode_labels, encode_transactions
from schemas.errors import WrongSettings
from schemas.topics import LABELS, TRANSACTIONS

TIMEOUT = 10.0
"""Seconds."""


def register(registry: str, topic: str, name: str) -> int:
    """The id under which our schema `name` is registered for a topic's values.  Raises WrongSettings."""
    address = f"{registry.rstrip('/')}/subjects/{topic}-value/versions"
    try:
        answer = httpx.post(address, json={"schema": msgspec.json.encode(our_schema(name)).decode()}, timeout=TIMEOUT)
        return int(answer.raise_for_status().json()["id"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise WrongSettings(f"the schema registry does not register {name!r}: {error}") from error


@dataclass(frozen=True)
class InAvro:
    """Encodes rows as schemas.encoding does, behind the ids of schemas that are registered."""

    transaction_schema: int
    label_schema: int

    @classmethod
    def registered(cls, registry: str, target: Target) -> Self:
        """Registers our schemas.  Raises WrongSettings."""
        return cls(
            register(registry, target.name(TRANSACTIONS), "transaction"),
            register(registry, target.name(LABELS), "label"),
        )

    def transactions(self, rows: pl.DataFrame) -> Encoded:
        """Each row as a message keyed by its account."""
        return _encoded(rows, encode_transactions, "transaction", self.transaction_schema)

    def labels(self, rows: pl.DataFrame) -> Encoded:
        """The same."""
        return _encoded(rows, encode_labels, "label", self.label_schema)


def _encoded(rows: pl.DataFrame, encode: Callable[[pl.DataFrame], Encoded], name: str, schema_id: int) -> Encoded:
    in_json = encode(rows)
    schema = parse_schema(our_schema(name), {})
    head = bytes([MAGIC]) + schema_id.to_bytes(4)
    values = []
    for value in in_json.values:
        message = BytesIO()
        message.write(head)
        schemaless_writer(message, schema, msgspec.json.decode(value))
        values.append(message.getvalue())
    return Encoded(in_json.keys, values)
