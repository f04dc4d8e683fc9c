"""What can't be learnt from ends a training with status 2 and says what would be right; nothing is half-written."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.local.ports import free_ports
from tests.unit.archives import an_archive
from tests.unit.full_disk import full_after
from tests.unit.pasts import a_past
from training import __main__ as command
from training import replay

HEAD = "id,who,whom,paid,when,fraud,told\n"
MAPPING = """
label_delay = "1d"
[transaction]
transaction_id = "id"
account_id = "who"
counterparty_id = "whom"
amount = "paid"
currency = { constant = "EUR" }
occurred_at = "when"
[label]
is_fraud = "fraud"
"""
TOLD = MAPPING + 'known_at = "told"\n'
QUICK = ("--trees", "5", "--leaves", "7", "--smallest-leaf", "5", "--threads", "1", "--no-mlflow")


def lines(count: int = 60, *, who: str = "a{}", fraud: str = "{}", told: int = 1) -> str:
    """A row an hour; each tenth is a fraud where `fraud` says so, known so many days after it."""
    rows = []
    for row in range(count):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=row)
        known = at + timedelta(days=told)
        is_fraud = fraud.format(int(row % 10 == 0))
        rows.append(f"t{row},{who.format(row % 7)},shop,{row + 1}.50,{at:%F %T},{is_fraud},{known:%F %T}")
    return HEAD + "\n".join(rows) + "\n"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", *map(str, arguments)])
    monkeypatch.setattr(logging.root, "handlers", [])  # of other tests, whose streams are closed
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


@pytest.mark.parametrize(
    ("table", "mapping", "says"),
    [
        ("", MAPPING, "table.csv can't be read: it is empty"),
        (HEAD, MAPPING, "the table of transactions is empty"),
        (lines(fraud="0"), MAPPING, "one class only: of 60 transactions none is a fraud"),
        (lines(fraud="1"), MAPPING, "one class only: all 60 transactions are frauds"),
        (lines(), MAPPING.replace('"whom"', '"payee"'), "names the column 'payee', which"),
        (lines(who="{}.0"), MAPPING, "60 of 60 ids are floats, such as that of row 0: ('who' is '0.0')"),
        (lines(told=-2), TOLD, "6 of 6 labels were known before their transaction occurred"),
        (lines().replace("2026-", "20x6-"), MAPPING, "60 of 60 values for transaction.occurred_at can't be read: in row 0"),
        (lines().replace(",shop,", ",shop,-"), MAPPING, "amount is negative (60)"),
    ],
)  # fmt: skip
def test_a_table_that_can_not_be_learnt_from(
    table: str, mapping: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "table.csv").write_text(table)
    (tmp_path / "mapping.toml").write_text(mapping)
    foreign = (tmp_path / "table.csv", "--mapping", tmp_path / "mapping.toml")

    assert run(monkeypatch, "run", *foreign, "--out", tmp_path / "bundles", *QUICK) == 2

    _, err = capsys.readouterr()
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "bundles").exists()


def test_an_archive_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transactions, labels = a_past(days=1)
    an_archive(tmp_path / "archive", transactions.head(0), labels.head(0))

    assert run(monkeypatch, "run", tmp_path / "archive", "--out", tmp_path / "bundles", *QUICK) == 2
    assert "the table of transactions is empty" in capsys.readouterr().err


@pytest.fixture
def past(tmp_path: Path) -> Path:
    transactions, labels = a_past()
    transactions.write_parquet(tmp_path / "transactions.parquet")
    labels.write_parquet(tmp_path / "labels.parquet")
    return tmp_path


@pytest.mark.parametrize("room", [2_000, 30_000])
def test_a_full_disk_leaves_the_bundle_that_was_in_use(
    room: int, past: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = past / "bundles"
    assert run(monkeypatch, "run", past, "--out", out, *QUICK) == 0
    before = sorted(path.name for path in out.iterdir())
    capsys.readouterr()

    with full_after(room):
        assert run(monkeypatch, "run", past, "--out", out, *QUICK, "--seed", "1") == 2

    assert "File too large" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == before


def test_a_full_disk_leaves_no_scores(
    past: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (past, "--train-until", "2026-03-21", "--test-from", "2026-03-28", "--threads", "1")
    scores = past / "scores.parquet"

    with full_after(2_000):
        assert run(monkeypatch, "backtest", *said, "--set", "lightgbm.num_iterations=5", "--scores", scores) == 2

    assert "large" in capsys.readouterr().err
    assert [path.name for path in past.iterdir() if "scores" in path.name] == []


def test_a_past_that_does_not_fit_the_memory_is_refused_before_it_is_described(
    past: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "_free_memory", lambda: 2_000_000)

    assert run(monkeypatch, "run", past, "--out", past / "bundles", *QUICK) == 2
    assert "4,800 transactions need 0.0 GB for their vectors, and 0.0 GB of memory are free" in capsys.readouterr().err
    assert not (past / "bundles").exists()


def test_a_table_that_does_not_fit_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text(lines(), encoding="utf-8")
    (tmp_path / "mapping.toml").write_text(MAPPING.replace("paid", "no such column"), encoding="utf-8")
    monkeypatch.setattr(replay, "_free_memory", lambda: 20_000)
    said = ("run", tmp_path / "table.csv", "--mapping", tmp_path / "mapping.toml", "--out", tmp_path / "bundles")

    assert run(monkeypatch, *said, *QUICK) == 2
    assert "60 transactions need" in capsys.readouterr().err


def test_a_table_that_is_not_described_as_a_whole_needs_no_memory_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text(lines(), encoding="utf-8")
    (tmp_path / "mapping.toml").write_text(MAPPING, encoding="utf-8")
    said = (tmp_path / "table.csv", "--mapping", tmp_path / "mapping.toml")
    monkeypatch.setattr(replay, "_free_memory", lambda: 20_000)

    assert run(monkeypatch, "validate", *said) == 0
    until = ("--train-until", "2026-01-02T12:00:00Z", "--out", tmp_path / "bundles")
    run(monkeypatch, "run", *said, *until, *QUICK, "--validation", "6h")
    assert "memory" not in capsys.readouterr().err


def test_an_s3_that_is_away(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {
        "ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    assert run(monkeypatch, "run", "s3://bank/fraud", *QUICK) == 2
    err = capsys.readouterr().err
    assert "s3://bank/fraud/transactions can't be read or written: " in err
    assert "Traceback" not in err
