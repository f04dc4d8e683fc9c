"""Tables in the shapes of well-known public ones, with a signal of known strength: who knew it would score by `truth`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Generator = np.random.Generator
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Table:
    """Somebody's table, and what somebody says to have it judged."""

    frame: pl.DataFrame
    truth: Floats
    """The probability by which each row is a fraud: no score has a better average precision than this, but by luck."""
    is_fraud: str
    """The column that says what came of it."""
    mapping: str
    """TOML."""
    command: tuple[str, ...]
    """Of `training backtest`."""
    learnt: slice
    """Of the rows, those before `--train-until`."""
    judged: slice
    """And those from `--test-from` on."""
    left_out: tuple[str, ...] = ()
    """Columns that nobody would learn from as they are: ids and the time."""

    def write(self, folder: Path) -> tuple[Path, Path]:
        """As CSV, with its mapping."""
        table, mapping = folder / "table.csv", folder / "mapping.toml"
        self.frame.write_csv(table)
        mapping.write_text(self.mapping, encoding="utf-8")
        return table, mapping

    def fraud(self) -> npt.NDArray[np.bool_]:
        """[rows]"""
        return self.frame[self.is_fraud].to_numpy().astype(bool)

    def plainly_scored(self) -> Floats:
        """The judged rows by LightGBM on the columns as they are, text as categories; stopped by the newest fifth before."""
        columns = [name for name in self.frame.columns if name not in (self.is_fraud, *self.left_out)]
        raw = self.frame.select(
            pl.col(name).cast(pl.Categorical).to_physical().alias(name)
            if self.frame.schema[name] == pl.String
            else pl.col(name)
            for name in columns
        )
        text = [name for name in columns if self.frame.schema[name] == pl.String]
        values, fraud = raw.cast(pl.Float64).fill_null(np.nan).to_numpy(), self.fraud()
        middle = int(self.learnt.stop * 0.8)
        params = {"objective": "binary", "metric": "average_precision", "learning_rate": 0.05, "num_leaves": 15,
                  "min_data_in_leaf": 20, "seed": 0, "num_threads": 1, "verbosity": -1}  # fmt: skip

        def data(rows: slice) -> lgb.Dataset:
            return lgb.Dataset(values[rows], fraud[rows].astype(int), feature_name=columns, categorical_feature=text)

        first, kept = data(slice(0, middle)), data(slice(middle, self.learnt.stop))
        found = lgb.train(params, first, 300, valid_sets=[kept], callbacks=[lgb.early_stopping(40, verbose=False)])
        again = lgb.train(params, data(self.learnt), found.best_iteration)
        return np.asarray(again.predict(values[self.judged]), np.float64)


def wallets(rows: int = 60_000, share: float = 0.015, seed: int = 1) -> Table:
    """Mobile money in steps of an hour (PaySim): each payer pays once, mules are paid again, frauds empty the account."""
    random = np.random.default_rng(seed)
    step = np.sort(random.integers(0, 30 * 24, rows))
    kinds = np.array(["PAYMENT", "TRANSFER", "CASH_OUT", "CASH_IN", "DEBIT"])
    kind = random.choice(kinds, rows, p=[0.34, 0.1, 0.33, 0.22, 0.01])
    amount = random.lognormal(5, 1.2, rows).round(2)
    emptied = random.random(rows) < 0.15
    before = np.where(emptied, amount, amount * random.lognormal(0.5, 1, rows)).round(2)
    paid = random.integers(0, 2_000, rows)
    moves = np.isin(kind, ["TRANSFER", "CASH_OUT"])
    logit = 6.0 * moves + 4.0 * emptied + 1.5 * np.log(amount) + 3.0 * (paid < 60)
    fraud, truth = drawn(random, logit, share)
    left = np.where(moves, np.maximum(before - amount, 0), before).round(2)
    there = random.exponential(3_000, rows).round(2)
    frame = pl.DataFrame(
        {
            "step": step,
            "type": kind,
            "amount": amount,
            "nameOrig": [f"C{10_000_000 + row}" for row in range(rows)],
            "oldbalanceOrg": before,
            "newbalanceOrig": left,
            "nameDest": [f"C{7 * one}" for one in paid],
            "oldbalanceDest": there,
            "newbalanceDest": (there + amount).round(2),
            "isFraud": fraud.astype(int),
            "isFlaggedFraud": (fraud & (amount > 100_000)).astype(int),
        }
    )
    until, since = 17 * 24, 20 * 24
    return Table(
        frame=frame,
        truth=truth,
        is_fraud="isFraud",
        mapping=_mapping(
            {"transaction_id": '{ pattern = "paysim-{#}" }', "account_id": '"nameOrig"', "amount": '"amount"'}
            | {"counterparty_id": '"nameDest"', "occurred_at": '"step"', "channel": '"type"'},
            'format = "steps"\nstep = "1h"\nstart = 2024-01-01T00:00:00',
            "isFraud",
            'attributes = ["oldbalanceOrg", "oldbalanceDest"]\n'
            'drop = ["newbalanceOrig", "newbalanceDest", "isFlaggedFraud"]\nlabel_delay = "3d"',
        ),
        command=("--train-until", "2024-01-18", "--test-from", "2024-01-21"),
        learnt=slice(0, int(np.searchsorted(step, until))),
        judged=slice(int(np.searchsorted(step, since)), rows),
        left_out=("step", "nameOrig", "nameDest", "newbalanceOrig", "newbalanceDest", "isFlaggedFraud"),
    )


def components(rows: int = 40_000, share: float = 0.002, seed: int = 2) -> Table:
    """Two days of card payments that name nobody (creditcard.csv): seconds, V1 to V28, an amount, two frauds in a thousand."""
    random = np.random.default_rng(seed)
    second = np.sort(random.integers(0, 2 * _DAY, rows))
    values = random.normal(0, 1, (rows, 28)) * np.linspace(2, 0.3, 28)
    amount = random.lognormal(3, 1.4, rows).round(2)
    logit = (values[:, [3, 10, 13]] / np.linspace(2, 0.3, 28)[[3, 10, 13]]) @ [3.0, 2.7, -3.3]
    fraud, truth = drawn(random, logit + 0.6 * (amount < 2), share)
    frame = pl.DataFrame(
        {"Time": second.astype(float)}
        | {f"V{number + 1}": values[:, number].round(6) for number in range(28)}
        | {"Amount": amount, "Class": fraud.astype(int)}
    )
    return Table(
        frame=frame,
        truth=truth,
        is_fraud="Class",
        mapping=_mapping(
            {"amount": '"Amount"', "occurred_at": '"Time"'},
            'format = "seconds"\nstart = 2013-09-01T00:00:00',
            "Class",
            'attributes = "*"\nlabel_delay = "1h"',
        ),
        command=("--train-until", "2013-09-02", "--test-from", "2013-09-02T01:00:00Z"),
        learnt=slice(0, int(np.searchsorted(second, _DAY))),
        judged=slice(int(np.searchsorted(second, _DAY + 3_600)), rows),
        left_out=("Time",),
    )


def orders(rows: int = 10_000, share: float = 0.05, seed: int = 3, columns: int = 100) -> Table:
    """Card payments of a shop (IEEE-CIS): seconds since some day, cards by parts, domains, and hundreds of columns with holes."""
    random = np.random.default_rng(seed)
    second = _DAY + np.sort(random.integers(0, 60 * _DAY, rows))
    card, domain = random.integers(1_000, 3_000, rows), random.integers(0, 50, rows)
    telling = random.normal(0, 0.5, 50)
    product = random.choice(np.array(list("WCRHS")), rows, p=[0.7, 0.1, 0.1, 0.05, 0.05])
    counts = random.poisson(2, (rows, 8)).astype(float)
    factors = random.normal(0, 1, (rows, 6))
    dense = factors @ random.normal(0, 1, (6, columns)) + random.normal(0, 1, (rows, columns))
    holes = random.random((rows, columns)) < random.uniform(0, 0.8, columns)
    amount = random.lognormal(4, 1, rows).round(2)
    logit = telling[domain] + 1.5 * (product == "C") + 0.4 * counts[:, 0] + 0.9 * factors[:, 0] - 0.6 * factors[:, 1]
    fraud, truth = drawn(random, 1.6 * logit + 0.8 * np.log(amount), share)
    frame = pl.DataFrame(
        {
            "TransactionID": 2_987_000 + np.arange(rows),
            "isFraud": fraud.astype(int),
            "TransactionDT": second,
            "TransactionAmt": amount,
            "ProductCD": product,
            "card1": card,
            "card4": random.choice(np.array(["visa", "mastercard", "discover"]), rows),
            "P_emaildomain": [None if one == 0 else f"mail-{one}.example" for one in domain],
        }
        | {f"C{number + 1}": counts[:, number] for number in range(8)}
        | {f"V{number + 1}": np.where(holes[:, number], np.nan, dense[:, number].round(4)) for number in range(columns)}
    ).with_columns(pl.selectors.float().fill_nan(None))
    return Table(
        frame=frame,
        truth=truth,
        is_fraud="isFraud",
        mapping=_mapping(
            {"transaction_id": '"TransactionID"', "account_id": '{ pattern = "{card1}-{card4}" }'}
            | {"amount": '"TransactionAmt"', "occurred_at": '"TransactionDT"'},
            'format = "seconds"\nstart = 2017-11-30T00:00:00',
            "isFraud",
            'attributes = "*"',
        ),
        command=("--train-until", "2018-01-10", "--test-from", "2018-01-17"),
        learnt=slice(0, int(np.searchsorted(second, 41 * _DAY))),
        judged=slice(int(np.searchsorted(second, 48 * _DAY)), rows),
        left_out=("TransactionID", "TransactionDT", "card1"),
    )


def cards(rows: int = 16_000, share: float = 0.03, seed: int = 4, once: float = 0.0) -> Table:
    """Card payments with places, categories and dates of birth (Sparkov); `once`: the share of rows whose card pays once."""
    random = np.random.default_rng(seed)
    second = np.sort(random.integers(0, 60 * _DAY, rows))
    holder, shop = random.integers(0, 600, rows), random.integers(0, 200, rows)
    kinds = np.array(["grocery_pos", "gas_transport", "shopping_net", "misc_net", "home", "travel", "food", "health"])
    category = shop % len(kinds)
    habit = random.normal(3.5, 0.8, 600)
    amount = np.exp(habit[holder] + random.normal(0, 0.5, rows))
    far = random.random(rows) < 0.05
    latitude, longitude = random.uniform(30, 45, 600), random.uniform(-120, -75, 600)
    born = 1935 + random.integers(0, 65, 600)
    hour = second // 3_600 % 24
    stolen = random.random(rows) < 0.03
    amount = np.where(stolen, amount * random.lognormal(1.2, 0.4, rows), amount).round(2)
    logit = 3.0 * stolen + 1.5 * np.isin(category, [2, 3]) + 1.2 * (hour < 5) + 1.2 * far + 0.02 * (2000 - born[holder])
    logit += 2.0 * (shop < 6)
    fraud, truth = drawn(random, 1.5 * logit, share)
    number = np.where(
        random.random(rows) < once, 5_000_000_000_000_000 + np.arange(rows), 4_000_000_000_000_000 + holder
    )
    frame = pl.DataFrame(
        {
            "": np.arange(rows),
            "trans_date_trans_time": pl.from_epoch(pl.Series(1_577_836_800 + second), "s").dt.strftime("%F %T"),
            "cc_num": number,
            "merchant": [f"fraud_Shop {one}" for one in shop],
            "category": kinds[category],
            "amt": amount,
            "gender": np.where(holder % 2, "F", "M"),
            "state": [f"S{one % 40}" for one in holder],
            "lat": latitude[holder].round(4),
            "long": longitude[holder].round(4),
            "city_pop": (holder * 977 % 50_000).astype(int),
            "job": [f"job {one % 120}" for one in holder],
            "dob": [f"{born[one]}-{1 + one % 12:02d}-{1 + one % 28:02d}" for one in holder],
            "trans_num": [f"{row:032x}" for row in range(rows)],
            "merch_lat": (latitude[holder] + np.where(far, 6, random.normal(0, 0.5, rows))).round(4),
            "merch_long": (longitude[holder] + random.normal(0, 0.5, rows)).round(4),
            "is_fraud": fraud.astype(int),
        }
    )
    return Table(
        frame=frame,
        truth=truth,
        is_fraud="is_fraud",
        mapping=_mapping(
            {"transaction_id": '"trans_num"', "account_id": '"cc_num"', "counterparty_id": '"merchant"'}
            | {"amount": '"amt"', "occurred_at": '"trans_date_trans_time"', "category": '"category"'}
            | {"latitude": '"merch_lat"', "longitude": '"merch_long"'},
            'format = "%Y-%m-%d %H:%M:%S"',
            "is_fraud",
            'attributes = "*"\ndrop = [""]',
        ),
        command=("--train-until", "2020-02-10", "--test-from", "2020-02-17"),
        learnt=slice(0, int(np.searchsorted(second, 40 * _DAY))),
        judged=slice(int(np.searchsorted(second, 47 * _DAY)), rows),
        left_out=("", "trans_date_trans_time", "cc_num", "trans_num", "merchant"),
    )


def applications(rows: int = 9_000, share: float = 0.12, seed: int = 5) -> Table:
    """Applications of eight months (BAF): a month is all that is known of the time, nobody is named, -1 is missing."""
    random = np.random.default_rng(seed)
    month = np.sort(random.integers(0, 8, rows))
    income, age = random.integers(1, 10, rows) / 10, random.integers(1, 9, rows) * 10
    similarity = random.random(rows)
    months = np.where(random.random(rows) < 0.7, -1, random.integers(0, 380, rows))
    housing, status = random.integers(0, 7, rows), random.integers(0, 7, rows)
    score = random.normal(130, 70, rows).round()
    foreign, kept_alive = random.random(rows) < 0.03, random.random(rows) < 0.6
    logit = 1.5 * (housing == 0) + 0.02 * age + 0.01 * score - 1.0 * similarity - 0.7 * kept_alive + 1.2 * foreign
    fraud, truth = drawn(random, 1.6 * (logit + 0.8 * (months < 0) + 2 * income * (status == 2)), share)
    frame = pl.DataFrame(
        {
            "fraud_bool": fraud.astype(int),
            "income": income,
            "name_email_similarity": similarity.round(6),
            "prev_address_months_count": months,
            "customer_age": age,
            "payment_type": [f"A{'ABCDE'[one]}" for one in random.integers(0, 5, rows)],
            "employment_status": [f"C{'ABCDEFG'[one]}" for one in status],
            "housing_status": [f"B{'ABCDEFG'[one]}" for one in housing],
            "credit_risk_score": score,
            "foreign_request": foreign.astype(int),
            "keep_alive_session": kept_alive.astype(int),
            "device_os": random.choice(np.array(["linux", "windows", "macintosh", "other"]), rows),
            "proposed_credit_limit": random.choice(np.array([200.0, 500.0, 1_000.0, 1_500.0]), rows),
            "month": month,
        }
    )
    return Table(
        frame=frame,
        truth=truth,
        is_fraud="fraud_bool",
        mapping=_mapping(
            {"amount": '"proposed_credit_limit"', "occurred_at": '"month"'},
            'format = "steps"\nstep = "30d"\nstart = 2024-01-01T00:00:00',
            "fraud_bool",
            'attributes = "*"\nlabel_delay = "1d"',
        ),
        command=("--train-until", "2024-05-30", "--test-from", "2024-05-30"),
        learnt=slice(0, int(np.searchsorted(month, 5))),
        judged=slice(int(np.searchsorted(month, 5)), rows),
        left_out=("month",),
    )


def drawn(random: Generator, logit: npt.NDArray[Any], share: float) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Frauds by these log-odds, moved so that they are this share; and the probability of each."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _logistic(logit + middle).mean() < share else (low, middle)
    truth = _logistic(logit + low)
    return random.random(len(truth)) < truth, truth


def _logistic(logit: npt.NDArray[Any]) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)), np.float64)


def _mapping(fields: Mapping[str, str], time: str, is_fraud: str, whole: str) -> str:
    said = "\n".join(f"{name} = {value}" for name, value in fields.items())
    return (
        f'fraud_values = [1]\n{whole}\n\n[transaction]\n{said}\ncurrency = {{ constant = "USD" }}\n\n[time]\n{time}\n\n'
        f'[label]\nis_fraud = "{is_fraud}"\n'
    )
