"""A past is held to what workers accept before the first message of it is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import polars as pl
import pytest
from typer.testing import CliRunner

from features import load as loading
from features import log
from features.__main__ import app
from features.load import acceptable, require_whole
from features.settings import Settings
from schemas.errors import WrongSettings
from schemas.mapping import Rejected
from tests.builders import ID_KEY
from tests.unit.pasts import a_past

SETTINGS = Settings(id_key=ID_KEY)


def long_ago(past: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """It ended before today, whatever day that is."""
    moved = timedelta(days=365 * 5)
    transactions, labels = past
    return (
        transactions.with_columns(pl.col("occurred_at") - moved),
        labels.with_columns(pl.col("occurred_at") - moved, pl.col("known_at") - moved),
    )


PAST = long_ago(a_past(days=10))


def test_a_past_as_it_should_be_is_accepted_whole() -> None:
    transactions, labels = acceptable(SETTINGS, *PAST)

    assert transactions.equals(PAST[0])
    assert labels.equals(PAST[1])


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("currency", "MGA", "unknown-currency"),
        ("occurred_at", datetime.now(UTC) + timedelta(days=400), "from-the-future"),
        ("occurred_at", datetime(1970, 1, 1, tzinfo=UTC), "out-of-range"),
        ("occurred_at", datetime(2, 1, 1, tzinfo=UTC), "out-of-range"),
        ("amount", -1, "out-of-range"),
    ],
)
def test_rows_that_no_worker_would_accept_are_refused_with_how_many_and_the_first(
    column: str, value: object, fault: str
) -> None:
    transactions, labels = PAST
    some = pl.int_range(pl.len()).is_in([7, 11, 900])
    kind = transactions.schema[column]
    odd = transactions.with_columns(pl.when(some).then(pl.lit(value, kind)).otherwise(column).alias(column))

    with pytest.raises(WrongSettings) as refused:
        acceptable(SETTINGS, odd, labels)
    said = str(refused.value)
    assert f"no worker would accept 3 of 1,200 transactions ({fault} 3), the first being transaction_id 't7': " in said
    assert f"`$.{column}`" in said
    assert "load the rest with --leave-out" in said
    assert "nothing was loaded" in said
    kept, _ = acceptable(SETTINGS, odd, labels, leave_out=True)
    assert kept.equals(transactions.filter(~transactions["transaction_id"].is_in(["t7", "t11", "t900"])))


def test_labels_are_held_to_the_rules_too() -> None:
    transactions, labels = PAST
    early = labels.with_columns(pl.col("occurred_at") - timedelta(seconds=1)).head(2)
    odd = pl.concat([early.with_columns(known_at=pl.col("occurred_at") - timedelta(days=1)), labels.slice(2)])

    with pytest.raises(
        WrongSettings, match=rf"2 of {labels.height} labels \(out-of-range 2\), the first being label_id 'l-"
    ):
        acceptable(SETTINGS, transactions, odd)
    assert acceptable(SETTINGS, transactions, odd, leave_out=True)[1].equals(labels.slice(2))


def test_rows_that_can_not_be_transactions_are_refused_but_for_lines_that_are_none() -> None:
    def rejected(why: str, *, of_labels: bool = False) -> Rejected:
        return Rejected(
            table="t.csv", count=1, rows=600, reasons={why: 1}, examples=[f"row 7: {why}"], of_labels=of_labels
        )

    require_whole([rejected("row is empty"), rejected("known_at is missing", of_labels=True)])
    with pytest.raises(WrongSettings, match=r"nothing was loaded: t.csv: 1 of 600 rows .*row 7: amount is missing"):
        require_whole([rejected("amount is missing")])


class KafkaThatAnswers:
    """With all topics, and with nothing else that a command could ask it for."""

    def __init__(self, _settings: Settings) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def check_topics(self) -> None: ...


def test_the_command_refuses_a_table_before_it_begins_to_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: object, **__: object) -> None:
        raise AssertionError("it went on")

    monkeypatch.setattr(log, "Log", KafkaThatAnswers)
    monkeypatch.setattr(loading, "Log", begun)
    table, mapping = tmp_path / "t.csv", tmp_path / "own.toml"
    own = '[transaction]\ntransaction_id = "id"\naccount_id = "who"\namount = "paid"\ncurrency = { constant = "EUR" }\n'
    own += 'occurred_at = "when"\n'
    milliseconds = "\n".join(f"t{row},a,5,{1_704_069_089_000 + row}" for row in range(20))
    table.write_text(f"id,who,paid,when\n{milliseconds}\n", encoding="utf-8")
    mapping.write_text(f'{own}[time]\nformat = "epoch-s"\n', encoding="utf-8")
    left = CliRunner().invoke(app, ["load", str(table), "--mapping", str(mapping)])
    assert isinstance(left.exception, WrongSettings)
    assert "are they seconds, or milliseconds?" in str(left.exception)

    table.write_text("id,who,paid,when\nt0,a,5,2024-01-01\nt1,a,x,2024-01-01\n", encoding="utf-8")
    mapping.write_text(own, encoding="utf-8")
    left = CliRunner().invoke(app, ["load", str(table), "--mapping", str(mapping)])
    assert isinstance(left.exception, WrongSettings)
    assert "1 of 2 rows can't be transactions: row 1: amount" in str(left.exception)
    left = CliRunner().invoke(app, ["load", str(table), "--mapping", str(mapping), "--leave-out"])
    assert isinstance(left.exception, AssertionError)
