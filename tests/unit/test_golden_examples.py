"""Messages of every version so far are still read, and still mean what they meant.

An example that is published is never changed: a new version adds a folder, and this file what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.activity import CounterpartyActivity, decode_activity
from schemas.dead_letter import DeadLetter
from schemas.errors import Fault
from schemas.label import Label, LabelSource, decode_label
from schemas.transaction import Transaction, decode_transaction
from schemas.verdict import (
    Alert,
    Explanation,
    Flag,
    Folded,
    Outcome,
    Reason,
    Shadow,
    Source,
    Verdict,
    decode_alert,
    decode_explanation,
    decode_verdict,
)
from schemas.wire import encode

FOLDER = Path(__file__).parents[2] / "schemas" / "examples"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
IN_TOKYO = timezone(timedelta(hours=9))
AFTER_MIDNIGHT = datetime(2026, 3, 3, 0, 30, 0, 123_456, tzinfo=IN_TOKYO)

A_TRANSACTION = Transaction(
    transaction_id="tx-1", account_id="acct-000001", amount=1_250, currency="EUR", occurred_at=NOON
)
A_FULL_TRANSACTION = Transaction(
    transaction_id="tx-2", account_id="acct-000001", amount=10**12, currency="JPY", occurred_at=AFTER_MIDNIGHT,
    counterparty_id="カフェ-7", channel="card", category="restaurant", country="JP", latitude=35.6762, longitude=139.6503,
    device_id="device-9", ip="2001:db8::1",
    attributes={"card_present": True, "entry_mode": "chip", "installments": 3, "tip_rate": 0.125},
)  # fmt: skip
A_LABEL = Label(
    label_id="label-1", transaction_id="tx-1", account_id="acct-000001", occurred_at=NOON, amount=1_250, is_fraud=False,
    known_at=datetime(2026, 3, 9, 8, tzinfo=UTC), source=LabelSource.ANALYST,
)  # fmt: skip
A_FULL_LABEL = Label(
    label_id="label-2", transaction_id="tx-2", account_id="acct-000001", occurred_at=AFTER_MIDNIGHT, amount=10**12,
    is_fraud=True, known_at=datetime(2026, 3, 20, 18, 0, 0, 500_000, tzinfo=IN_TOKYO), source=LabelSource.CHARGEBACK,
    counterparty_id="カフェ-7",
)  # fmt: skip
TOPIC, LABELS_TOPIC = "Y2xq0Yd1TVm1bQkYJm5Y4g", "vHYQy0cQTq6m5Rk3hQx3Gw"
A_SOURCE = Source(2, 2**63 - 1, TOPIC, 1_772_465_400_130)
A_VERDICT = Verdict(
    transaction_id="tx-1", account_id="acct-000001", outcome=Outcome.APPROVE, score=0.0125, margin=-4.369447852467021,
    bundle="0a1b2c3d4e5f6071", policy="9f8e7d6c", vector_digest="c46cb66becdeb9a5", occurred_at=NOON,
    decided_at=NOON + timedelta(milliseconds=41), source=Source(2, 3), folded=Folded(0),
)  # fmt: skip
A_FULL_VERDICT = msgspec.structs.replace(
    A_VERDICT, transaction_id="tx-2", outcome=Outcome.DECLINE, score=0.96875, margin=3.4339872044851463,
    occurred_at=AFTER_MIDNIGHT, decided_at=datetime(2026, 3, 2, 15, 30, 0, 171_000, tzinfo=UTC),
    source=A_SOURCE, folded=Folded(17, 40_961, LABELS_TOPIC), flags=(Flag.LATE,),
    vector="AECcRAAAQEEAAAAAAAAAAAAAAAAAAAAAAADAfwAAwH8AAAAAAAAAAAAAwH8AAMB/AABAQACwO0UAQHpEAIB6RAAAQEAAsDtFAEB6RACAekQA"
    "wKhHFdefPxJ7mEMAAAAAAADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/",
)  # fmt: skip
REASONS = (
    Reason(
        feature="amount_to_account_mean_30d", value=12.5, contribution=2.25,
        meaning="amount over the account's mean payment in the 30 days before",
    ),
    Reason(
        feature="counterparty_fraud_rate_7d", value=None, contribution=-0.5,
        meaning="share of frauds at the counterparty in the 7 days that ended 7 days ago",
    ),
)  # fmt: skip
IN_WORDS = (
    msgspec.structs.replace(
        REASONS[0], text="amount over the account's mean payment in the 30 days before: 12.5, usually 0.97"
    ),
    REASONS[1],
)
AN_EXPLANATION = Explanation(
    transaction_id="tx-2",
    account_id="acct-000001",
    bundle="0a1b2c3d4e5f6071",
    source=A_SOURCE,
    alert=40_961,
    reasons=IN_WORDS,
)
A_PAYMENT = CounterpartyActivity(
    counterparty_id="カフェ-7", transaction=8551241300860479828, account=5499276293877714103, amount=555_555_555_556,
    occurred_at=1_772_465_400_123_456, source=msgspec.structs.replace(A_SOURCE, offset=9),
)  # fmt: skip

Decode = Callable[[bytes | None], Any]
EXAMPLES: dict[str, tuple[Decode, msgspec.Struct]] = {
    "v1/transaction-minimal": (decode_transaction, A_TRANSACTION),
    "v1/transaction-full": (decode_transaction, A_FULL_TRANSACTION),
    "v1/transaction-from-a-newer-producer": (
        decode_transaction, msgspec.structs.replace(A_TRANSACTION, transaction_id="tx-3")
    ),
    "v1/label-minimal": (decode_label, A_LABEL),
    "v1/label-full": (decode_label, A_FULL_LABEL),
    "v1/label-from-a-newer-producer": (
        decode_label, msgspec.structs.replace(A_LABEL, label_id="label-3", source=LabelSource.RULE)
    ),
    "v1/verdict-minimal": (decode_verdict, A_VERDICT),
    "v1/verdict-full": (decode_verdict, A_FULL_VERDICT),
    "v1/verdict-degraded": (
        decode_verdict,
        msgspec.structs.replace(
            A_VERDICT, transaction_id="tx-4", source=Source(2, 5), folded=Folded(17),
            flags=(Flag.LATE, Flag.DEGRADED, Flag.CANARY),
        ),
    ),
    "v1/verdict-from-a-newer-worker": (
        decode_verdict, msgspec.structs.replace(A_VERDICT, shadow=Shadow(bundle="ffeeddccbbaa0099", score=0.5))
    ),
    "v1/alert-with-reasons": (
        decode_alert, Alert(verdict=A_FULL_VERDICT, transaction=A_FULL_TRANSACTION, reasons=REASONS)
    ),
    "v1/alert-with-reasons-in-words": (
        decode_alert, Alert(verdict=A_FULL_VERDICT, transaction=A_FULL_TRANSACTION, reasons=IN_WORDS)
    ),
    "v1/explanation": (decode_explanation, AN_EXPLANATION),
    "v1/alert-pending": (
        decode_alert,
        Alert(
            verdict=msgspec.structs.replace(A_FULL_VERDICT, outcome=Outcome.REVIEW), transaction=A_TRANSACTION,
            reasons="pending",
        ),
    ),
    "v1/activity-payment": (decode_activity, A_PAYMENT),
    "v1/activity-label": (
        decode_activity,
        msgspec.structs.replace(
            A_PAYMENT, amount=10**12, source=Source(2, 4), known_at=1_773_997_200_500_000, is_fraud=True
        ),
    ),
}  # fmt: skip
HEADERS = {
    "v1/dead-letter-headers": DeadLetter(
        fault=Fault.MISSING_FIELD, detail="Object missing required field `amount`", topic="bank-transactions", partition=3,
        offset=41, attempt=2, at=NOON + timedelta(milliseconds=41), topic_id=TOPIC, timestamp=1_772_465_400_130,
    )
}  # fmt: skip


def content(name: str) -> bytes:
    return (FOLDER / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_read_as_what_it_meant(name: str) -> None:
    decode, meant = EXAMPLES[name]
    read = decode(content(name))

    assert read == meant
    assert type(read) is type(meant)
    assert decode(encode(read)) == read


@pytest.mark.parametrize("name", HEADERS)
def test_a_dead_letters_headers_are_read_as_what_they_meant(name: str) -> None:
    headers = [(key, value.encode()) for key, value in json.loads(content(name)).items()]

    assert DeadLetter.from_headers(headers) == HEADERS[name]


def test_every_example_is_pinned_here() -> None:
    there = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*") if path.is_file()}

    assert there == EXAMPLES.keys() | HEADERS.keys()


def test_a_local_hour_survives() -> None:
    """Equal moments are equal whatever their offsets; the offset counts nonetheless."""
    assert decode_transaction(content("v1/transaction-full")).occurred_at.utcoffset() == timedelta(hours=9)


def test_a_transactions_canonical_bytes_never_change() -> None:
    """Their hash lies in profiles, and tells a producer's duplicate from an id used again."""
    bare, full = (decode_transaction(content(f"v1/transaction-{name}")) for name in ("minimal", "full"))

    assert encode(bare) == (
        b'{"transaction_id":"tx-1","account_id":"acct-000001","amount":1250,"currency":"EUR",'
        b'"occurred_at":"2026-03-02T12:00:00Z"}'
    )
    assert encode(full).decode() == (
        '{"transaction_id":"tx-2","account_id":"acct-000001","amount":1000000000000,"currency":"JPY",'
        '"occurred_at":"2026-03-03T00:30:00.123456+09:00","counterparty_id":"カフェ-7","channel":"card",'
        '"category":"restaurant","country":"JP","latitude":35.6762,"longitude":139.6503,"device_id":"device-9",'
        '"ip":"2001:db8::1","attributes":{"card_present":true,"entry_mode":"chip","installments":3,"tip_rate":0.125}}'
    )
