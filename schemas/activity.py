"""What counterparties are told of their payments and labels: `counterparty-activity`, keyed by counterparty, internal."""

from __future__ import annotations

import msgspec

from schemas.verdict import Source
from schemas.wire import Id, decode


class CounterpartyActivity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One payment at a counterparty, or (with `known_at`) one label of such a payment.

    Written by the worker that judged the transaction or folded the label, in the same Kafka transaction.
    """

    counterparty_id: Id
    transaction: int
    """64-bit hash of the transaction_id."""
    account: int
    """64-bit hash of the account_id: who, without saying who."""
    amount: int
    """In minor units of the profiles' currency."""
    occurred_at: int
    """Microseconds since 1970 UTC, of the transaction."""
    source: Source
    """The message on `transactions` or, for a label, on `labels`."""
    known_at: int | None = None
    """Microseconds since 1970 UTC; present in a label's part only."""
    is_fraud: bool | None = None


_decoder = msgspec.json.Decoder(CounterpartyActivity)


def decode_activity(value: bytes | None) -> CounterpartyActivity:
    """Raises BadMessage."""
    return decode(_decoder, value)
