"""What the kernel is given: transactions, labels and payments as rows of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.accepting import Rules
from features.compiling import compiled
from features.hashing import hash32, hash64
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
        ("content", "<u4"),  # 24 bits of a hash
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
ID_BITS, CONTENT_BITS, NAME_BITS = (1 << 48) - 1, (1 << 24) - 1, (1 << 24) - 1
MOST_RATIO = (1 << 31) - 1

Facts = npt.NDArray[np.void]


@lru_cache(maxsize=65_536)
def name24(name: str | None) -> int:
    """What a counterparty, country, device, channel or category is called in a profile."""
    return UNNAMED if name is None else hash64(name) & NAME_BITS


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
    rows = []
    for one, offset in transactions:
        occurred, currency = one.occurred_at, one.currency
        placed = one.latitude is not None and one.longitude is not None
        rows.append(
            (
                microseconds(occurred),
                rules.amount(one.amount, currency),
                offset,
                hash64(one.transaction_id) & ID_BITS,
                hash32(encode(one)) & CONTENT_BITS,
                name24(one.counterparty_id),
                name24(one.country),
                name24(one.device_id),
                name24(one.channel),
                name24(one.category),
                millionths(one.latitude) if placed else NO_PLACE,  # type: ignore[arg-type]
                millionths(one.longitude) if placed else NO_PLACE,  # type: ignore[arg-type]
                occurred.hour,
                occurred.weekday(),
                is_below_round(one.amount, MINOR_DIGITS.get(currency, 2)),
            )
        )
    return np.array(rows, TRANSACTION)


def of_labels(labels: Iterable[Label]) -> Facts:
    """Labels of accounts as rows."""
    return np.array(
        [
            (hash64(one.transaction_id), microseconds(one.occurred_at), microseconds(one.known_at), -1, one.is_fraud)
            for one in labels
        ],
        LABEL,
    )


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
