"""What is said of a transaction: a verdict of each, an alert of the flagged ones, an explanation of what alerts left open."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from schemas.transaction import Transaction
from schemas.wire import Moment, decode


class Outcome(StrEnum):
    """What to do with the transaction."""

    APPROVE = "approve"
    REVIEW = "review"
    DECLINE = "decline"


class Flag(StrEnum):
    """What else is to be known of a verdict."""

    LATE = "late"
    """The transaction is older than the oldest event that its account's profile still holds."""
    CANARY = "canary"
    """Judged by the challenger: the account is one of its share."""
    DEGRADED = "degraded"
    """Judged as if it named no counterparty: what is known of the one it names could not be read in time."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Which record of an input topic is meant: where it lies, and what tells it from another log's at the same place."""

    partition: int
    offset: int
    topic_id: str = ""
    """Kafka's id of the topic: one that was deleted and made anew has another."""
    timestamp: int = -1
    """The record's own, in milliseconds since 1970 UTC: a log that lost its end may hold another record there by now."""


class Folded(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the profiles behind a verdict had seen: with the log, enough to compute its vector again to the bit."""

    labels: int
    """The next offset of `labels`, in the source's partition, that was not folded yet."""
    activity: int | None = None
    """The last offset of `counterparty-activity` that the counterparty's profile had folded; absent if none."""
    labels_topic_id: str = ""
    """Kafka's id of the topic that `labels` counts on."""


class Shadow(msgspec.Struct, frozen=True, gc=False):
    """What another bundle says of the same transaction, and nothing follows from."""

    bundle: str
    score: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Exactly one for every accepted transaction."""

    transaction_id: str
    account_id: str
    outcome: Outcome
    score: float
    """Calibrated probability of fraud."""
    margin: float
    """The model's raw margin: bit-equal wherever the bundle is computed."""
    bundle: str
    policy: str
    vector_digest: str
    """xxh3-64 of the vector's bytes, in hex."""
    occurred_at: Moment
    decided_at: Moment
    source: Source
    folded: Folded
    vector: str | None = None
    """Base64 of little-endian float32, in the order of the bundle's features; a setting leaves it out."""
    flags: tuple[Flag, ...] = ()
    shadow: Shadow | None = None
    """Absent unless a challenger is tried, or a new champion is on probation."""


class Reason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the margin is what it is: one feature's part in it."""

    feature: str
    meaning: str
    value: float | None
    contribution: float
    """Of the margin; positive speaks for fraud."""
    text: str = ""
    """The same for people: what, how much, and how much is usual."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that wants a look, with what it is about."""

    verdict: Verdict
    transaction: Transaction
    reasons: tuple[Reason, ...] | Literal["pending"]
    """At most five, the strongest first; `pending` where an explanation follows. Then the verdict here has its vector."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one for every alert whose reasons are `pending`, in the alert's partition."""

    transaction_id: str
    account_id: str
    bundle: str
    source: Source
    """The verdict's: where the transaction lies."""
    alert: int
    """Where the alert lies: its offset, in this explanation's partition."""
    reasons: tuple[Reason, ...]
    """As the alert would have had them: at most five, the strongest first."""


_verdict_decoder = msgspec.json.Decoder(Verdict)
_alert_decoder = msgspec.json.Decoder(Alert)
_explanation_decoder = msgspec.json.Decoder(Explanation)


def decode_verdict(value: bytes | None) -> Verdict:
    """Raises BadMessage."""
    return decode(_verdict_decoder, value)


def decode_alert(value: bytes | None) -> Alert:
    """Raises BadMessage."""
    return decode(_alert_decoder, value)


def decode_explanation(value: bytes | None) -> Explanation:
    """Raises BadMessage."""
    return decode(_explanation_decoder, value)
