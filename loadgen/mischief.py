"""Messages that are wrong on purpose, and producer's duplicates, each with what is planned for it.

They come on top of a stream's transactions: every good transaction still wants its verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from schemas.encoding import encode_transactions
from schemas.errors import Fault
from schemas.wire import MAX_AMOUNT, MAX_ID_BYTES

DUPLICATE: Final = "duplicate"
"""Planned for a producer's duplicate: one verdict for both."""


class Mischief(msgspec.Struct, frozen=True, kw_only=True):
    """How much of it.  Shares are of the transactions."""

    malformed: float = 0.0
    """Messages that end as dead letters, every kind equally often."""
    duplicates: float = 0.0
    seed: int = 1
    largest: int = 900_000
    """Bytes of the largest noise; a producer's own limit is at a million."""

    def __post_init__(self) -> None:
        if not (0 <= self.malformed <= 1 and 0 <= self.duplicates <= 1 and self.malformed + self.duplicates <= 1):
            raise ValueError("shares of malformed messages and duplicates are 0 to 1, together as well")


@dataclass(frozen=True)
class Planted:
    """One of them."""

    kind: str
    planned: Fault | str
    """The dead letter's error, or DUPLICATE."""
    transaction_id: str
    """Its own, or that of the transaction that it repeats."""
    after: int
    """Follows this transaction of the stream."""
    key: bytes | None
    value: bytes | None
    wrong_partition: bool = False
    """Goes to the partition behind the right one."""


Fields = dict[str, Any]
Rng = np.random.Generator


def _json(fields: Fields) -> bytes:
    return msgspec.json.encode(fields)


def _with(**changed: object) -> Callable[[Fields, Rng], bytes]:
    return lambda fields, _rng: _json(fields | changed)


def _without(*names: str) -> Callable[[Fields, Rng], bytes]:
    def spoil(fields: Fields, rng: Rng) -> bytes:
        gone = names[rng.integers(len(names))]
        return _json({name: value for name, value in fields.items() if name != gone})

    return spoil


def _cut_short(fields: Fields, rng: Rng) -> bytes:
    whole = _json(fields)
    return whole[: int(rng.integers(1, len(whole)))]


def _nan(fields: Fields, _rng: Rng) -> bytes:
    # What json.dumps of Python writes; JSON has no such number.
    return _json(fields | {"amount": 0}).replace(b'"amount":0', b'"amount":NaN')


def _invalid_utf8(fields: Fields, _rng: Rng) -> bytes:
    return _json(fields | {"category": "caf?"}).replace(b"caf?", b"caf\xe9")


def _without_zone(fields: Fields, _rng: Rng) -> bytes:
    return _json(fields | {"occurred_at": str(fields["occurred_at"])[:26]})


def _in_the_future(fields: Fields, _rng: Rng) -> bytes:
    # A hundred years on: the future of whoever reads it, without asking what time it is.
    occurred = datetime.fromisoformat(str(fields["occurred_at"])) + timedelta(days=36_525)
    return _json(fields | {"occurred_at": occurred.isoformat()})


_SPOILED: Final[Mapping[str, tuple[Fault, Callable[[Fields, Rng], bytes | None]]]] = MappingProxyType(
    {
        "not-json": (Fault.NOT_JSON, _cut_short),
        "nan": (Fault.NOT_JSON, _nan),
        "wrong-type": (Fault.WRONG_TYPE, _with(amount="12.50")),
        "missing-field": (
            Fault.MISSING_FIELD,
            _without("transaction_id", "account_id", "amount", "currency", "occurred_at"),
        ),
        "negative-amount": (Fault.OUT_OF_RANGE, _with(amount=-1)),
        "too-large": (Fault.OUT_OF_RANGE, _with(amount=MAX_AMOUNT + 1)),
        "unknown-currency": (Fault.UNKNOWN_CURRENCY, _with(currency="QQQ")),
        "time-without-zone": (Fault.TIME_WITHOUT_ZONE, _without_zone),
        "empty-id": (Fault.OUT_OF_RANGE, _with(transaction_id="")),
        "long-id": (Fault.OUT_OF_RANGE, _with(transaction_id="x" * (MAX_ID_BYTES + 1))),
        # 100 characters, which a type that counts characters lets pass.
        "long-id-in-bytes": (Fault.OUT_OF_RANGE, _with(transaction_id="ü" * 100)),
        "invalid-utf8": (Fault.INVALID_UTF8, _invalid_utf8),
        "null-value": (Fault.NULL_VALUE, lambda _fields, _rng: None),
        "from-the-future": (Fault.FROM_THE_FUTURE, _in_the_future),
    }
)
"""What becomes of a good message, and what is planned for it."""
NOISE, WRONG_KEY, WRONG_PARTITION, ID_REUSED = "noise", "wrong-key", "wrong-partition", "id-reused"
KINDS: Final = (*_SPOILED, NOISE, WRONG_KEY, WRONG_PARTITION, ID_REUSED)
_SOON: Final = 40
"""A duplicate, or an id used again, follows within so many transactions."""


def plan(mischief: Mischief, transactions: pl.DataFrame) -> list[Planted]:
    """What goes between these transactions, in order of `after`.  One seed and table, one plan."""
    rng = np.random.default_rng([mischief.seed, 20])
    count = transactions.height
    malformed, duplicates = round(mischief.malformed * count), round(mischief.duplicates * count)
    # Each builds on a transaction of its own, so that nothing is duplicated and used again as well.
    models = rng.permutation(count)[: malformed + duplicates]
    rows = transactions[models.tolist()]
    encoded = encode_transactions(rows)
    ids = rows["transaction_id"].to_list()
    planted = []
    for number, (at, key, value) in enumerate(zip(models.tolist(), encoded.keys, encoded.values, strict=True)):
        soon = min(int(at) + int(rng.integers(1, _SOON)), count - 1)
        if number >= malformed:
            planted.append(Planted(DUPLICATE, DUPLICATE, ids[number], soon, key, value))
        else:
            kind = KINDS[number % len(KINDS)]
            planted.append(_spoiled(kind, mischief, rng, _Model(ids[number], int(at), soon, key, value), number))
    planted.sort(key=lambda each: each.after)
    return planted


@dataclass(frozen=True)
class _Model:
    """The good transaction that something bad is made of."""

    transaction_id: str
    at: int
    soon: int
    key: bytes
    value: bytes


def _spoiled(kind: str, mischief: Mischief, rng: Rng, model: _Model, number: int) -> Planted:
    if kind == ID_REUSED:
        fields = msgspec.json.decode(model.value)
        again = _json(fields | {"amount": fields["amount"] + 1})
        return Planted(kind, Fault.ID_REUSED, model.transaction_id, model.soon, model.key, again)
    own = f"mischief-{mischief.seed}-{number:06}"
    fields = msgspec.json.decode(model.value) | {"transaction_id": own}
    if kind == NOISE:
        size = int(np.exp(rng.uniform(np.log(10), np.log(mischief.largest))))
        # 0xff is in no UTF-8: else three random bytes might by chance be a number.
        return Planted(kind, Fault.INVALID_UTF8, own, model.at, model.key, b"\xff" + rng.bytes(size - 1))
    if kind == WRONG_KEY:
        return Planted(kind, Fault.WRONG_KEY, own, model.at, model.key + b"-not", _json(fields))
    if kind == WRONG_PARTITION:
        return Planted(kind, Fault.WRONG_PARTITION, own, model.at, model.key, _json(fields), wrong_partition=True)
    fault, spoil = _SPOILED[kind]
    return Planted(kind, fault, own, model.at, model.key, spoil(fields, rng))


def expected(planted: Sequence[Planted]) -> dict[str, int]:
    """How many are planned for each error, and how many duplicates."""
    return dict(Counter(str(each.planned) for each in planted))
