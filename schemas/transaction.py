"""A transaction: what producers publish to `transactions`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.avro_wire import MAGIC, NO_REGISTRY, Writers
from schemas.avro_wire import decode as decode_avro
from schemas.wire import Amount, Currency, Id, LenientDecoder, Moment, check_ids

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Country = Annotated[
    str, msgspec.Meta(pattern="^[A-Z]{2}$", min_length=2, max_length=2, description="ISO 3166-1 alpha-2")
]


class Transaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One attempted payment, as the gateway saw it.

    `occurred_at` is when the account's holder paid, never when we heard of it: every window is cut in event time, so
    that a replay sees what the worker saw.
    """

    transaction_id: Id
    account_id: Id
    amount: Amount
    currency: Currency
    occurred_at: Moment
    counterparty_id: Id | None = None
    """Who is paid: a merchant, a terminal, another account; absent where nobody is named."""
    channel: Word | None = None
    category: Word | None = None
    country: Country | None = None
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)] | None = None
    device_id: Id | None = None
    ip: Annotated[str, msgspec.Meta(min_length=1, max_length=45)] | None = None
    attributes: dict[str, float | int | bool | Annotated[str, msgspec.Meta(min_length=1)]] = {}
    """Anything else that is known of it, by name."""


TRANSACTIONS = LenientDecoder(Transaction)


def decode_transaction(value: bytes | None, writers: Writers = NO_REGISTRY) -> Transaction:
    """In JSON or in Avro, which `writers` knows the schemas of.  Raises BadMessage, RegistryUnavailable."""
    transaction = (
        decode_avro(TRANSACTIONS, "transaction", value, writers)
        if value and value[0] == MAGIC
        else TRANSACTIONS.decode(value)
    )
    check_ids(transaction, "transaction_id", "account_id", "counterparty_id", "device_id")
    return transaction
