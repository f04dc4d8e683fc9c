"""What the kernel is given: transactions, labels and payments as rows of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.accepting import Rules
from features.compiling import compiled
from features.hash_keys import HashKey
from schemas.activity import CounterpartyActivity
from schemas.currencies import MINOR_DIGITS
from schemas.label import Label
from schemas.transaction import Transaction
from schemas.wire import encode, microseconds

TRANSACTION = np.dtype(
    [
        ("time", "<i8"),  # microseconds since 1970 UTC
        ("amount", "<i8"),  # minor units of the profiles' currency
        ("offset", "<i8"),  # of its message; -1: none
        ("id", "<u8"),  # 48 bits of a hash
        ("content", "<u8"),  # 40 bits of a hash
        ("counterparty", "<u4"),  # these five: 24 bits of a hash, or UNNAMED
        ("country", "<u4"),
        ("device", "<u4"),
        ("channel", "<u4"),
        ("category", "<u4"),
        ("latitude", "<i4"),  # millionths of a degree, or NO_PLACE
        ("longitude", "<i4"),
        ("hour", "<i1"),  # local
        ("weekday", "<i1"),  # local; Monday is 0
        ("below_round", "<i1"),  # bool
    ],
    align=True,
)
LABEL = np.dtype(
    [("id", "<u8"), ("occurred", "<i8"), ("known", "<i8"), ("offset", "<i8"), ("fraud", "<i1")], align=True
)
PAYMENT = np.dtype(
    [
        ("time", "<i8"),
        ("amount", "<i8"),
        ("offset", "<i8"),
        ("account", "<u8"),  # 64 bits of a hash
        ("ratio", "<i4"),  # thousandths of what is typical of its payer; 0: not known
    ],
    align=True,
)
"""A payment as its counterparty hears of it."""
UNNAMED = 0xFFFFFFFF
NO_PLACE = -(1 << 31)
ID_BITS, CONTENT_BITS, NAME_BITS = (np.uint64((1 << bits) - 1) for bits in (48, 40, 24))
"""What of its hash a profile keeps.  A transaction whose id is new is taken for one of 192 in its account's ring once in
2**48 / 192 = 1.5e12, and refused by name; one whose id was used before is taken for that very transaction, and gets no
verdict, once in 2**40 = 1.1e12.  Both at once, which swallows a payment with an id of its own: once in 1.6e24.
"""
MOST_RATIO = (1 << 31) - 1

Facts = npt.NDArray[np.void]


def names_of(names: Sequence[str | None], key: HashKey) -> npt.NDArray[np.uint32]:
    """What counterparties, countries, devices, channels or categories are called in a profile, [n]."""
    found = (key.hashes_of_text([name or "" for name in names]) & NAME_BITS).astype(np.uint32)
    found[[i for i, name in enumerate(names) if name is None]] = UNNAMED
    return found


def millionths(degrees: float) -> int:
    """Of a degree, rounded to even."""
    return round(degrees * 1e6)


@compiled()
def is_below_round(amount: int, digits: int) -> bool:
    """Whether an amount of so many minor digits is at most 2 % below 1, 2 or 5 times a power of ten, from 100 on."""
    step = np.int64(100) * np.int64(10) ** np.int64(digits)
    while step <= 2 * amount:
        for times in (1, 2, 5):
            if 100 * times * step > 100 * amount >= 98 * times * step:
                return True
        step *= 10
    return False


@compiled()
def are_below_round(amount: npt.NDArray[np.int64], digits: npt.NDArray[np.int8], out: npt.NDArray[np.int8]) -> None:
    """The same for many."""
    for i in range(len(amount)):
        out[i] = is_below_round(amount[i], digits[i])


def of_transactions(transactions: Iterable[tuple[Transaction, int]], rules: Rules) -> Facts:
    """Transactions, with their offsets, as rows."""
    rows: list[tuple[int, ...]] = []
    ids: list[str] = []
    contents: list[bytes] = []
    names: list[str | None] = []
    for one, offset in transactions:
        occurred, currency = one.occurred_at, one.currency
        placed = one.latitude is not None and one.longitude is not None
        ids.append(one.transaction_id)
        contents.append(encode(one))
        names += (one.counterparty_id, one.country, one.device_id, one.channel, one.category)
        rows.append(
            (
                microseconds(occurred),
                rules.amount(one.amount, currency),
                offset,
                0, 0, 0, 0, 0, 0, 0,
                millionths(one.latitude) if placed else NO_PLACE,  # type: ignore[arg-type]
                millionths(one.longitude) if placed else NO_PLACE,  # type: ignore[arg-type]
                occurred.hour,
                occurred.weekday(),
                is_below_round(one.amount, MINOR_DIGITS.get(currency, 2)),
            )
        )  # fmt: skip
    facts = np.array(rows, TRANSACTION)
    facts["id"] = rules.keys.ids.hashes_of_text(ids) & ID_BITS
    facts["content"] = rules.keys.contents.hashes(contents) & CONTENT_BITS
    named = names_of(names, rules.keys.names).reshape(-1, len(NAMES))
    for column, name in enumerate(NAMES):
        facts[name] = named[:, column]
    return facts


NAMES = ("counterparty", "country", "device", "channel", "category")


def of_labels(labels: Iterable[Label], rules: Rules) -> Facts:
    """Labels of accounts as rows."""
    labels = list(labels)
    facts = np.array(
        [(0, microseconds(one.occurred_at), microseconds(one.known_at), -1, one.is_fraud) for one in labels], LABEL
    )
    facts["id"] = rules.keys.ids.hashes_of_text([one.transaction_id for one in labels])
    return facts


class Heard(NamedTuple):
    """Activity as steps of a walk: n of each, but for the facts."""

    step: npt.NDArray[np.int8]
    which: npt.NDArray[np.int64]
    """The row of the facts of that kind."""
    payments: Facts
    labels: Facts

    @classmethod
    def joined(cls, parts: Sequence[Heard]) -> Heard:
        """One after the other."""
        if not parts:
            return of_activity(())
        before = np.cumsum([[0, 0], *([len(one.payments), len(one.labels)] for one in parts)], axis=0)
        return cls(
            np.concatenate([one.step for one in parts]),
            np.concatenate([one.which + moved[one.step] for one, moved in zip(parts, before, strict=False)]),
            np.concatenate([one.payments for one in parts]),
            np.concatenate([one.labels for one in parts]),
        )

    def known_at(self) -> npt.NDArray[np.int64]:
        """When each was true: a payment when it occurred, a label when it was known."""
        at = np.empty(len(self.step), np.int64)
        is_label = self.step == LABEL_STEP
        at[is_label] = self.labels["known"][self.which[is_label]]
        at[~is_label] = self.payments["time"][self.which[~is_label]]
        return at


PAYMENT_STEP, LABEL_STEP = 0, 1


def of_activity(activity: Iterable[tuple[CounterpartyActivity, int]]) -> Heard:
    """What counterparties are told, with its offsets."""
    step: list[int] = []
    which: list[int] = []
    payments: list[tuple[int, ...]] = []
    labels: list[tuple[int, ...]] = []
    for one, offset in activity:
        if one.known_at is None:
            step.append(PAYMENT_STEP)
            which.append(len(payments))
            payments.append((one.occurred_at, one.amount, offset, one.account, one.ratio))
        else:
            step.append(LABEL_STEP)
            which.append(len(labels))
            labels.append((one.transaction, one.occurred_at, one.known_at, offset, bool(one.is_fraud)))
    return Heard(
        np.array(step, np.int8), np.array(which, np.int64), np.array(payments, PAYMENT), np.array(labels, LABEL)
    )
