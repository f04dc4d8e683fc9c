"""The published features follow from a vector and its transaction; a difference is a tie only where its cause is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer

from benchmarks import oracle, quality
from benchmarks.published import DERIVATIONS, Cause, Compared, NoSuchFeature, Odd, Seen, compare
from features.catalogue import FEATURES, column
from schemas.tables import TRANSACTION_COLUMNS

NOON = datetime(2018, 8, 4, 12, tzinfo=UTC)
WINDOWS = ("1DAY", "7DAY", "30DAY")
NOTHING_BEFORE = {
    "TX_DURING_WEEKEND": 1,
    "TX_DURING_NIGHT": 0,
    **{f"CUSTOMER_ID_NB_TX_{w}_WINDOW": 1 for w in WINDOWS},
    **{f"CUSTOMER_ID_AVG_AMOUNT_{w}_WINDOW": 57.16 for w in WINDOWS},
    **{f"TERMINAL_ID_NB_TX_{w}_WINDOW": 0 for w in WINDOWS},
    **{f"TERMINAL_ID_RISK_{w}_WINDOW": 0.0 for w in WINDOWS},
}
"""Published of the first payment, 57.16, of a customer, at noon of a Saturday, where nobody had paid."""


def seen(*rows: dict[str, Any]) -> Seen:
    """Transactions of one account, with these features and, unless told otherwise, nothing before them."""
    vectors = np.zeros((len(rows), len(FEATURES)), np.float32)
    for name in FEATURES:
        if "mean" in name or "rate" in name:
            vectors[:, column(name)] = np.nan
    vectors[:, column("weekday")], vectors[:, column("hour")] = 5, 12
    table = []
    for number, row in enumerate(rows):
        fields = {"transaction_id": f"tx-{number}", "account_id": "customer-1", "amount": 5_716, "occurred_at": NOON}
        for name, value in row.items():
            if name in fields:
                fields[name] = value
            else:
                vectors[number, column(name)] = value
        table.append({name: fields.get(name) for name in TRANSACTION_COLUMNS})
    return Seen(pl.DataFrame(table, schema=TRANSACTION_COLUMNS), vectors)


def published(*rows: Mapping[str, float]) -> pl.DataFrame:
    """As the authors' table has it: means and risks in float32."""
    kinds = {name: pl.Int16 if "NB" in name or "DURING" in name else pl.Float32 for name in NOTHING_BEFORE}
    return pl.DataFrame([{**NOTHING_BEFORE, **row} for row in rows], schema=kinds)


def held(found: Seen, table: pl.DataFrame) -> tuple[dict[str, Compared], list[Odd]]:
    compared, odd = compare(found, table)
    return {f"{line.published} of {line.of}": line for line in compared}, odd


def test_all_fourteen_are_compared() -> None:
    assert {one.published for one in DERIVATIONS} == set(NOTHING_BEFORE)
    assert len(NOTHING_BEFORE) == 14


def test_of_an_account_and_a_counterparty_never_seen_all_follow() -> None:
    compared, odd = held(seen({}), published({}))
    assert odd == []
    assert all((line.values, line.equal) == (1, 1) for line in compared.values())


def test_the_transaction_itself_is_counted_and_weighed_in() -> None:
    before = {"account_count_24h": 2, "account_mean_24h": 1_000, "account_count_7d": 9, "account_mean_7d": 3_000}
    now = {
        "CUSTOMER_ID_NB_TX_1DAY_WINDOW": 3,
        "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW": (10 + 10 + 57.16) / 3,
        "CUSTOMER_ID_NB_TX_7DAY_WINDOW": 10,
        "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW": (9 * 30 + 57.16) / 10,
    }
    assert held(seen(before), published(now))[1] == []


def test_matured_windows_are_taken_as_they_are() -> None:
    before = {
        "counterparty_matured_count_7d": 3, "counterparty_matured_frauds_7d": 1, "counterparty_fraud_rate_7d": 1 / 3,
    }  # fmt: skip
    then = {"TERMINAL_ID_NB_TX_7DAY_WINDOW": 3, "TERMINAL_ID_RISK_7DAY_WINDOW": 1 / 3}
    assert held(seen(before), published(then))[1] == []


def test_frauds_and_rate_are_both_held_against_the_risk() -> None:
    before = {
        "counterparty_matured_count_7d": 3,
        "counterparty_matured_frauds_7d": 1,
        "counterparty_fraud_rate_7d": 0.5,
    }
    then = {"TERMINAL_ID_NB_TX_7DAY_WINDOW": 3, "TERMINAL_ID_RISK_7DAY_WINDOW": 1 / 3}
    compared, (odd,) = held(seen(before), published(then))
    assert (odd.published, odd.ours, odd.cause) == ("TERMINAL_ID_RISK_7DAY_WINDOW", 0.5, None)
    assert compared["TERMINAL_ID_RISK_7DAY_WINDOW of counterparty_fraud_rate_7d"].different == 1


def test_the_last_hour_of_the_night_is_the_one_that_begins_at_six() -> None:
    six, seven = {"hour": 6, "weekday": 4}, {"hour": 7, "weekday": 6, "account_id": "another"}
    night, weekend = {"TX_DURING_NIGHT": 1, "TX_DURING_WEEKEND": 0}, {"TX_DURING_NIGHT": 0, "TX_DURING_WEEKEND": 1}
    assert held(seen(six, seven), published(night, weekend))[1] == []


@pytest.mark.parametrize(("off", "differs"), [(0.5e-6, False), (2e-6, True)])
def test_a_mean_may_be_a_millionth_off_and_no_more(off: float, differs: bool) -> None:
    theirs = {"CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW": 57.16 * (1 + off)}
    compared, odd = held(seen({}), published(theirs))
    line = compared["CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW of account_mean_30d and itself"]
    assert (len(odd), line.different) == (int(differs), int(differs))


def test_a_count_may_not_be_off_at_all() -> None:
    _, (odd,) = held(seen({}), published({"TERMINAL_ID_NB_TX_30DAY_WINDOW": 1}))
    assert odd == Odd(transaction_id="tx-0", published="TERMINAL_ID_NB_TX_30DAY_WINDOW", ours=0.0, theirs=1.0)


def test_what_a_running_sum_leaves_of_payments_of_nothing_is_told_apart() -> None:
    theirs = {f"CUSTOMER_ID_AVG_AMOUNT_{w}_WINDOW": 0.0 for w in WINDOWS}
    left = {"CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW": 1.7e-13}
    compared, (odd,) = held(seen({"amount": 0}), published(theirs | left))
    assert odd.cause is Cause.LEFTOVER
    line = compared["CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW of account_mean_24h and itself"]
    assert (line.equal, line.leftovers, line.different) == (0, 1, 0)


# Two payments of one customer in one second, 10 and then 30 on our log; the authors had them the other way round.

FIRST = {"amount": 1_000}
SECOND = {"amount": 3_000} | {
    f"account_{what}_{w}": value for w in ("24h", "7d", "30d") for what, value in (("count", 1), ("mean", 1_000))
}


def customer(count: int, mean: float) -> dict[str, float]:
    return {f"CUSTOMER_ID_NB_TX_{w}_WINDOW": count for w in WINDOWS} | {
        f"CUSTOMER_ID_AVG_AMOUNT_{w}_WINDOW": mean for w in WINDOWS
    }


def test_ties_in_the_same_order_are_equal() -> None:
    assert held(seen(FIRST, SECOND), published(customer(1, 10), customer(2, 20)))[1] == []


def test_ties_in_another_order_are_explained() -> None:
    compared, odd = held(seen(FIRST, SECOND), published(customer(2, 20), customer(1, 30)))
    assert {one.why for one in odd if one.transaction_id == "tx-0"} == {
        "customer-1 paid 2 times at 2018-08-04 12:00:00: before it, ours has none of them, theirs tx-1"
    }
    assert [one.cause for one in odd] == [Cause.TIE] * 12
    assert sum(line.ties for line in compared.values()) == 12
    assert sum(line.different for line in compared.values()) == 0


def test_a_tie_excuses_nothing_that_its_order_does_not_explain() -> None:
    theirs = customer(2, 20) | {"CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW": 21}
    compared, odd = held(seen(FIRST, SECOND), published(theirs, customer(2, 20)))
    assert [one.cause for one in odd] == [None] * 6
    assert sum(line.different for line in compared.values()) == 6


def test_what_is_no_tie_is_not_explained() -> None:
    rows = FIRST, SECOND | {"occurred_at": NOON + timedelta(seconds=1)}
    _, odd = held(seen(*rows), published(customer(2, 20), customer(1, 30)))
    assert {one.cause for one in odd} == {None}


def test_a_feature_that_the_catalogue_does_not_have_is_named() -> None:
    with pytest.raises(NoSuchFeature, match=r"'account_count_1y'.*published"):
        seen({})["account_count_1y"]


@pytest.mark.parametrize("benchmark", [oracle.main, quality.main])
def test_a_file_that_is_missing_is_said_before_anything_is_read(
    benchmark: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "transactions.parquet").write_text("is not even looked at")

    app = typer.Typer()
    app.command()(benchmark)
    with pytest.raises(SystemExit) as left:
        app([str(tmp_path)])

    assert left.value.code == 2
    said = "".join(capsys.readouterr())
    assert "features_oracle.parquet" in "".join(said.split())
    assert "Traceback" not in said
