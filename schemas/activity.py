"""What counterparties are told of their payments and labels: `counterparty-activity`, keyed by counterparty, internal."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.errors import BadMessage, Fault
from schemas.verdict import Source
from schemas.wire import Id, check_ids, decode

Hash = Annotated[int, msgspec.Meta(ge=0, description="64 bits")]
Micros = Annotated[int, msgspec.Meta(ge=-(1 << 60), le=1 << 60, description="microseconds since 1970 UTC")]


class CounterpartyActivity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One payment at a counterparty, or (with `known_at`) one label of such a payment.

    Written by the worker that judged the transaction or folded the label, in the same Kafka transaction.
    """

    counterparty_id: Id
    transaction: Hash
    """64-bit keyed hash of the transaction_id."""
    account: Hash
    """64-bit keyed hash of the account_id: who, without saying who."""
    hashed_by: Annotated[str, msgspec.Meta(max_length=8, description="names the key of both")] = ""
    """Its fingerprint: hashes by another key are no name of anything here.  Empty: by none, as releases before did."""
    amount: Annotated[int, msgspec.Meta(ge=0, le=(1 << 47) - 1)]
    """In minor units of the profiles' currency."""
    occurred_at: Micros
    """Of the transaction."""
    source: Source
    """The message on `transactions` or, for a label, on `labels`."""
    ratio: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)] = 0
    """Of the amount to what was typical of the account, in thousandths; 0 where nothing was, and for a label."""
    known_at: Micros | None = None
    """Present in a label's part only."""
    is_fraud: bool | None = None


_decoder = msgspec.json.Decoder(CounterpartyActivity)


def decode_activity(value: bytes | None) -> CounterpartyActivity:
    """Raises BadMessage."""
    activity = decode(_decoder, value)
    check_ids(activity, "counterparty_id")
    if activity.transaction >> 64 or activity.account >> 64:
        raise BadMessage(Fault.OUT_OF_RANGE, "`$.transaction` and `$.account` are hashes of 64 bits")
    return activity
