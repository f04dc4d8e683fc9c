"""A label: what is known of a transaction afterwards.  Published to `labels`, keyed by account."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from schemas.avro_wire import MAGIC, NO_REGISTRY, Writers
from schemas.avro_wire import decode as decode_avro
from schemas.wire import Amount, Id, LenientDecoder, Moment, check_ids


class LabelSource(StrEnum):
    """Who says so."""

    CHARGEBACK = "chargeback"
    ANALYST = "analyst"
    RULE = "rule"
    SIMULATION = "simulation"


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Whether a transaction was fraud, as known at `known_at`.  Of several, the newest `known_at` holds."""

    label_id: Id
    transaction_id: Id
    account_id: Id
    occurred_at: Moment
    """When the transaction occurred, not when it was labelled."""
    amount: Amount
    is_fraud: bool
    known_at: Moment
    source: LabelSource
    counterparty_id: Id | None = None


LABELS = LenientDecoder(Label)


def decode_label(value: bytes | None, writers: Writers = NO_REGISTRY) -> Label:
    """In JSON or in Avro, which `writers` knows the schemas of.  Raises BadMessage, RegistryUnavailable."""
    label = decode_avro(LABELS, "label", value, writers) if value and value[0] == MAGIC else LABELS.decode(value)
    check_ids(label, "label_id", "transaction_id", "account_id", "counterparty_id")
    return label
