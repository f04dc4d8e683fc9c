"""Rows of the tables as the messages that producers publish, fast: some 200,000 a second on one core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from schemas.tables import ATTRIBUTE, LABEL_COLUMNS

Attributes = dict[str, float | int | bool | str]


class _Transaction(msgspec.Struct, omit_defaults=True):
    """schemas.transaction.Transaction with the time as text: making datetimes would cost more than all the rest."""

    transaction_id: str
    account_id: str
    amount: int
    currency: str
    occurred_at: str
    counterparty_id: str | None = None
    channel: str | None = None
    category: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    device_id: str | None = None
    ip: str | None = None
    attributes: Attributes = {}


_FIELDS = _Transaction.__struct_fields__[:-1]
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Encoded:
    """Messages of one topic, ready to be produced."""

    keys: Sequence[bytes]
    values: Sequence[bytes]


def encode_transactions(rows: pl.DataFrame) -> Encoded:
    """Each row as a message keyed by its account; `occurred_at` with the offset of where it occurred."""
    names = [name for name in rows.columns if name.startswith(ATTRIBUTE)]
    plain = rows.select(
        local_time().alias("occurred_at") if name == "occurred_at" else pl.col(name) for name in _FIELDS
    )
    encode, message = _encode, _Transaction
    if not names:
        values = [encode(message(*row)) for row in plain.rows()]
    else:
        short = [name.removeprefix(ATTRIBUTE) for name in names]
        values = []
        for row, carried in zip(plain.rows(), rows.select(names).rows(), strict=True):
            known = message(*row)
            known.attributes = {name: value for name, value in zip(short, carried, strict=True) if value is not None}
            values.append(encode(known))
    return Encoded([key.encode() for key in rows["account_id"].to_list()], values)


def local_time() -> pl.Expr:
    """`occurred_at` in RFC 3339, as clocks showed it where it occurred."""
    minutes = pl.col("utc_offset").cast(pl.Int64)
    clock = (pl.col("occurred_at") + pl.duration(minutes=minutes)).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
    hours = (minutes.abs() // 60).cast(pl.String).str.zfill(2)
    rest = (minutes.abs() % 60).cast(pl.String).str.zfill(2)
    return pl.concat_str(clock, pl.when(minutes < 0).then(pl.lit("-")).otherwise(pl.lit("+")), hours, pl.lit(":"), rest)


class _Label(msgspec.Struct, omit_defaults=True):
    label_id: str
    transaction_id: str
    account_id: str
    occurred_at: str
    amount: int
    is_fraud: bool
    known_at: str
    source: str
    counterparty_id: str | None = None


def encode_labels(rows: pl.DataFrame) -> Encoded:
    """Each row as a message keyed by its account."""
    plain = rows.select(
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ") if name.endswith("_at") else pl.col(name)
        for name in _Label.__struct_fields__
    )
    assert set(plain.columns) == set(LABEL_COLUMNS)
    values = [_encode(_Label(*row)) for row in plain.rows()]
    return Encoded([key.encode() for key in rows["account_id"].to_list()], values)
