"""Which messages are accepted: a pure function of bytes, key, partition and the record's own timestamp; of a message in
Avro also of its writer's schema, which never changes.

Never of the wall clock: what was dead-lettered once must be dead-lettered in every fold.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

from xxhash import xxh3_64_hexdigest

from features import profile
from features.hash_keys import PUBLIC, HashKeys
from schemas.activity import CounterpartyActivity, decode_activity
from schemas.avro_wire import NO_REGISTRY, Writers
from schemas.currencies import DEFAULT_RATES, Rates
from schemas.errors import BadMessage, Fault
from schemas.label import Label, decode_label
from schemas.marks import Landmark
from schemas.topics import DEFAULT_PARTITIONS
from schemas.transaction import Transaction, decode_transaction
from schemas.wire import EARLIEST, LATEST, microseconds

FORMAT_VERSION = 4
"""Raise it with every change of what is accepted, of the kernel's fold or of the packed profile."""
MAX_PROFILE_AMOUNT = (1 << 47) - 1
"""Minor units; what an amount is cut to after conversion, so that it fits a profile's six bytes."""


_EARLIEST, _LATEST = microseconds(EARLIEST), microseconds(LATEST)
_SHOWN = 80
"""Characters of a name, in words."""


class Record(NamedTuple):
    """One message as it lies on its topic."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970 UTC, the record's own."""
    key: bytes | None
    value: bytes | None
    topic_id: str = ""
    """Kafka's id of the topic it lies on."""

    def landmark(self) -> Landmark:
        """By which its log is known again."""
        key, value = self.key or b"", self.value or b""
        digest = xxh3_64_hexdigest(len(key).to_bytes(4, "little") + key + value)
        return Landmark(offset=self.offset, timestamp=self.timestamp, digest=digest)


class Bounds(NamedTuple):
    """Of a transaction's attributes.  Each name is a column to whoever learns from them."""

    most: int = 1_000
    name: int = 128
    """Characters, at most."""
    text: int = 1_024
    """Characters of a value that is text, at most."""


class Rules(NamedTuple):
    """What accepting and folding depend on besides the log."""

    partitions: int = DEFAULT_PARTITIONS
    future_tolerance: int = 600_000_000
    """Microseconds that `occurred_at` may lie after the record's timestamp."""
    rates: Rates = DEFAULT_RATES
    keys: HashKeys = PUBLIC
    """What ids, contents and names are hashed by."""
    writers: Writers = NO_REGISTRY
    """The schemas of messages in Avro.  No part of the format: what it doesn't know is left out of every fold."""
    bounds: Bounds = Bounds()

    def format(self) -> str:
        """Names everything that a fold depends on besides the log: a position of another format is another fold's."""
        accepted = (self.partitions, self.future_tolerance, tuple(self.bounds))
        kept = (FORMAT_VERSION, profile.ACCOUNT, profile.COUNTERPARTY, *accepted)
        rates = (self.rates.currency, sorted(self.rates.factors.items()))
        return hashlib.sha256(repr((kept, rates, self.keys.fingerprint)).encode()).hexdigest()[:8]

    def amount(self, amount: int, currency: str) -> int:
        """Minor units of the profiles' currency."""
        return min(self.rates.convert(amount, currency), MAX_PROFILE_AMOUNT)

    def transaction(self, record: Record, belongs: int) -> Transaction:
        """The transaction in `record`, whose key belongs to partition `belongs`.  Raises BadMessage, RegistryUnavailable."""
        transaction = decode_transaction(record.value, self.writers)
        self._check_place(record, "account_id", transaction.account_id, belongs)
        if transaction.currency not in self.rates.factors:
            raise BadMessage(
                Fault.UNKNOWN_CURRENCY,
                f"`$.currency` is {transaction.currency!r}, which has no rate (setting FRAUD_RATES__{transaction.currency})",
            )
        self._check_time(record, "occurred_at", transaction.occurred_at)
        if transaction.attributes:
            self._check_attributes(transaction.attributes)
        return transaction

    def label(self, record: Record, belongs: int) -> Label:
        """The label in `record`.  Raises BadMessage, RegistryUnavailable."""
        label = decode_label(record.value, self.writers)
        self._check_place(record, "account_id", label.account_id, belongs)
        self._check_time(record, "known_at", label.known_at)
        self._check_time(record, "occurred_at", label.occurred_at)
        if label.known_at < label.occurred_at:
            early = (microseconds(label.occurred_at) - microseconds(label.known_at)) / 1e6
            raise BadMessage(
                Fault.OUT_OF_RANGE,
                f"`$.known_at` is {early:,.0f} s before `$.occurred_at`: what a transaction was is known when it has occurred, "
                "or later (of a day alone, at its end)",
            )
        return label

    def activity(self, record: Record, belongs: int) -> CounterpartyActivity:
        """The activity in `record`, which one of our own workers wrote.  Raises BadMessage."""
        activity = decode_activity(record.value)
        if activity.hashed_by != self.keys.fingerprint:
            raise BadMessage(
                Fault.OTHER_KEY,
                f"its hashes are by the key {activity.hashed_by or 'of none'}, this installation's FRAUD_ID_KEY is "
                f"{self.keys.fingerprint}",
            )
        self._check_place(record, "counterparty_id", activity.counterparty_id, belongs)
        return activity

    @staticmethod
    def _check_place(record: Record, name: str, key: str, belongs: int) -> None:
        if record.key != key.encode():
            raise BadMessage(
                Fault.WRONG_KEY, f"the key is {record.key!r:.160}, `$.{name}` is {key!r}: they must be equal"
            )
        if record.partition != belongs:
            raise BadMessage(
                Fault.WRONG_PARTITION,
                f"key {key!r} lies in partition {record.partition} and belongs in {belongs}: "
                "set the producer's partitioner to murmur2_random",
            )

    def _check_time(self, record: Record, name: str, at: datetime) -> None:
        moment = microseconds(at)
        ahead = moment - record.timestamp * 1000
        if ahead > self.future_tolerance:
            raise BadMessage(
                Fault.FROM_THE_FUTURE,
                f"`$.{name}` is {ahead / 1e6:.0f} s after the record's timestamp, "
                f"at most {self.future_tolerance / 1e6:.0f} s is accepted (FRAUD_FUTURE_TOLERANCE)",
            )
        if not _EARLIEST <= moment < _LATEST:
            raise BadMessage(
                Fault.OUT_OF_RANGE,
                f"`$.{name}` is {at.isoformat()}: from {EARLIEST.year} until before {LATEST.year} is accepted",
            )

    def _check_attributes(self, attributes: dict[str, float | int | bool | str]) -> None:
        most, longest_name, longest_text = self.bounds
        if len(attributes) > most:
            raise BadMessage(
                Fault.OUT_OF_RANGE,
                f"`$.attributes` holds {len(attributes):,}, at most {most:,} are accepted (FRAUD_MOST_ATTRIBUTES)",
            )
        for name, value in attributes.items():
            if len(name) > longest_name:
                raise BadMessage(
                    Fault.OUT_OF_RANGE,
                    f"`$.attributes`: the name {name[:_SHOWN]!r}… has {len(name):,} characters, at most {longest_name:,} are "
                    "accepted (FRAUD_LONGEST_ATTRIBUTE_NAME)",
                )
            if type(value) is str and len(value) > longest_text:
                raise BadMessage(
                    Fault.OUT_OF_RANGE,
                    f"`$.attributes[{name[:_SHOWN]!r}]` has {len(value):,} characters, at most {longest_text:,} are accepted "
                    "(FRAUD_LONGEST_ATTRIBUTE_TEXT)",
                )
