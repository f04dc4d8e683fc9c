"""Small synthetic tables in the shapes of other people's: something to try a mapping on.  One seed, one table.

Each has frauds that can be learnt, and goes with the mapping of the same name in schemas/mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import polars as pl

from schemas.errors import WrongSettings

Generator = np.random.Generator
_DAY: Final = 86_400


def write_sample(name: str, file: Path, *, seed: int = 7, force: bool = False) -> int:
    """Writes a CSV file; how many rows it has.  Raises WrongSettings, also where another file is there, without `force`."""
    if name not in SAMPLES:
        raise WrongSettings(f"there is no sample {name!r}; there are {', '.join(SAMPLES)}")
    table = SAMPLES[name](np.random.default_rng(seed))
    content = table.write_csv(separator=";" if name == "card-payments" else ",").encode()
    try:
        if file.exists() and not force and file.read_bytes() != content:
            raise WrongSettings(f"{file} is there already, and is another table; --force replaces it")
        file.write_bytes(content)
    except OSError as error:
        raise WrongSettings(f"{file}: {error}") from error
    return table.height


def card_payments(random: Generator) -> pl.DataFrame:
    """A European bank's export of 60 days: date and local time apart, decimal commas, and when frauds were charged back.

    Stolen cards are used several times within an hour, for much, at shops that their holders don't know.
    """
    cards, shops, rows, thefts = 250, 80, 7_000, 60
    usual = random.integers(0, shops, (cards, 6))
    card = random.integers(0, cards, rows)
    genuine = {
        "card": card,
        "shop": usual[card, random.integers(0, 6, rows)],
        "second": random.uniform(0, 60, rows).astype(int) * _DAY + _waking(random, rows),
        "amount": np.exp(random.normal(3.1 + 0.5 * (card % 3), 0.6)),
        "fraud": np.zeros(rows, int),
    }
    often = random.integers(2, 7, thefts)
    at = np.repeat(random.uniform(0, 60 * _DAY - 7_200, thefts), often)
    stolen = {
        "card": np.repeat(random.integers(0, cards, thefts), often),
        "shop": random.integers(0, shops, len(at)),
        "second": (at + random.uniform(0, 3_600, len(at))).astype(int),
        "amount": np.exp(random.normal(5.4, 0.5, len(at))),
        "fraud": np.ones(len(at), int),
    }
    both = {name: np.concatenate([genuine[name], stolen[name]]) for name in genuine}
    when = pl.from_epoch(pl.Series(both["second"] + int(datetime(2024, 2, 1, tzinfo=UTC).timestamp())), "s")
    local = when.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    fraud = pl.Series(both["fraud"])
    known = pl.from_epoch(when.dt.epoch("s") + random.integers(3, 9, len(when)) * _DAY, "s")
    table = pl.DataFrame(
        {
            "at": both["second"],
            "card": [f"card-{one:04d}" for one in both["card"]],
            "merchant": [f"shop-{one:03d}" for one in both["shop"]],
            "date": local.dt.strftime("%d.%m.%Y"),
            "time": local.dt.strftime("%H:%M:%S"),
            "amount": [f"{one:.2f}".replace(".", ",") for one in both["amount"]],
            "mcc": [str(5_000 + int(one) % 11) for one in both["shop"]],
            "entry": np.where(both["fraud"] | (random.random(len(fraud)) < 0.3), "online", "chip"),
            "country": np.where(both["shop"] % 7 == 0, "FR", "DE"),
            "shop_age_days": both["shop"] * 37 % 900,
            "fraud": fraud,
            "chargeback_date": known.dt.strftime("%d.%m.%Y"),
            "program": "cards",
        }
    )
    charged = pl.when(pl.col("fraud") == 1).then(pl.col("chargeback_date")).alias("chargeback_date")
    numbered = table.sort("at").with_row_index("number", 1).with_columns(charged)
    named = pl.format("P{}", pl.col("number").cast(pl.String).str.zfill(6)).alias("payment_id")
    return numbered.select(named, pl.exclude("number", "at"))


def transfers(random: Generator) -> pl.DataFrame:
    """Mobile money of 30 days in steps of an hour, accounts on both sides (the shape of PaySim).

    A taken account is emptied into a mule's, which cashes out within hours.
    """
    accounts, shops, rows, taken = 500, 60, 6_500, 90
    kinds = np.array(["PAYMENT", "TRANSFER", "CASH_OUT", "CASH_IN", "DEBIT"])
    kind = random.choice(kinds, rows, p=[0.4, 0.15, 0.25, 0.18, 0.02])
    origin = random.integers(0, accounts, rows)
    names = np.array([f"C{1_000_000 + 7 * one}" for one in range(accounts)])
    merchants = np.array([f"M{2_000_000 + 7 * one}" for one in range(shops)])
    mules = np.array([f"C{3_000_000 + 7 * one}" for one in range(25)])
    genuine: dict[str, Any] = {
        "step": (random.uniform(0, 30, rows).astype(int) * 24 + _waking(random, rows) // 3_600),
        "type": kind,
        "amount": np.exp(random.normal(4.5 + 0.4 * (origin % 4), 0.8)).round(2),
        "nameOrig": names[origin],
        "nameDest": np.where(
            kind == "PAYMENT", merchants[random.integers(0, shops, rows)], names[random.integers(0, accounts, rows)]
        ),
        "isFraud": np.zeros(rows, int),
    }
    genuine["oldbalanceOrg"] = (genuine["amount"] * random.uniform(0.8, 20, rows)).round(2)
    at, mule = random.integers(0, 30 * 24 - 4, taken), mules[random.integers(0, len(mules), taken)]
    loot = np.exp(random.normal(7.6, 0.6, taken)).round(2)
    emptied: dict[str, Any] = {
        "step": np.concatenate([at, at + random.integers(1, 4, taken)]),
        "type": np.repeat(["TRANSFER", "CASH_OUT"], taken),
        "amount": np.concatenate([loot, loot]),
        "nameOrig": np.concatenate([names[random.integers(0, accounts, taken)], mule]),
        "nameDest": np.concatenate([mule, names[random.integers(0, accounts, taken)]]),
        "isFraud": np.ones(2 * taken, int),
        "oldbalanceOrg": np.concatenate([loot, loot]),
    }
    table = pl.DataFrame({name: np.concatenate([genuine[name], emptied[name]]) for name in genuine}).sort(
        "step", maintain_order=True
    )
    left = (pl.col("oldbalanceOrg") - pl.col("amount")).clip(lower_bound=0).round(2)
    before = pl.Series((random.exponential(3_000, table.height)).round(2))
    flagged = ((pl.col("isFraud") == 1) & (pl.col("amount") > 6_000)).cast(pl.Int64)
    return table.with_columns(
        left.alias("newbalanceOrig"), before.alias("oldbalanceDest"), flagged.alias("isFlaggedFraud")
    ).select(
        "step", "type", "amount", "nameOrig", "oldbalanceOrg", "newbalanceOrig", "nameDest", "oldbalanceDest",
        (pl.col("oldbalanceDest") + pl.col("amount")).round(2).alias("newbalanceDest"), "isFraud", "isFlaggedFraud",
    )  # fmt: skip


def anonymous(random: Generator) -> pl.DataFrame:
    """Two days of card payments that name nobody: seconds since the first, V1 to V20, amount, class (the ULB's shape).

    Frauds are shifted in some of the V, by more than noise and less than would give them away, and are of a few amounts.
    """
    rows = 8_000
    fraud = random.random(rows) < 0.03
    table: dict[str, Any] = {"Time": np.sort(random.integers(0, 2 * _DAY, rows))}
    for number in range(1, 21):
        spread, shift = 2.0 / number**0.5, (1.8 if number in (3, 4, 7, 12, 14) else 0.0) * (-1) ** number
        table[f"V{number}"] = (random.normal(0, spread, rows) + shift * spread * fraud).round(6)
    usual = np.exp(random.normal(3.2, 1.1, rows))
    tested = np.where(random.random(rows) < 0.5, random.uniform(0, 1.5, rows), random.uniform(300, 420, rows))
    table["Amount"] = np.where(fraud & (random.random(rows) < 0.8), tested, usual).round(2)
    table["Class"] = fraud.astype(int)
    return pl.DataFrame(table)


def _waking(random: Generator, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Seconds since midnight, few of them at night."""
    return (random.normal(14, 4, rows).clip(0, 23.99) * 3_600).astype(np.int64)


SAMPLES: Final[Mapping[str, Callable[[Generator], pl.DataFrame]]] = MappingProxyType(
    {"card-payments": card_payments, "paysim": transfers, "creditcard": anonymous}
)
"""By the name of the mapping that reads them."""
