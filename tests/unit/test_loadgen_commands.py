"""The commands as a user meets them: exit status, JSON on standard output, errors in a sentence."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import msgspec
import pytest
import typer

from loadgen import __main__ as commands
from schemas.mapping import TableMapping, read_past


def loadgen(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "loadgen", *arguments], capture_output=True, timeout=60, check=False)


def test_simulate_writes_a_past_and_says_so_in_json(tmp_path: Path) -> None:
    small = ["--accounts", "50", "--counterparties", "30", "--days", "2", "--per-day", "200", "--seed", "3"]
    done = loadgen("simulate", *small, "--end", "2026-01-31T00:00:00Z", "--out", str(tmp_path / "past"), "--json")

    assert done.returncode == 0
    assert done.stderr == b""
    report = msgspec.json.decode(done.stdout)
    transactions, labels = read_past(tmp_path / "past")
    assert report["transactions"] == transactions.height > 100
    assert report["labels"] == labels.height
    assert report["world"]["end"] == "2026-01-31T00:00:00Z"
    assert {file.name for file in (tmp_path / "past").iterdir()} == {
        "transactions.parquet",
        "labels.parquet",
        "truth.parquet",
        "world.json",
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "--out", "x", "--end", "yesterday"], "--end"),
        (["simulate", "--out", "x", "--end", "2026-01-31T00:00:00"], "offset"),
        (["simulate", "--out", "x", "--accounts", "0"], "accounts"),
        (["simulate", "--out", "x", "--seed", "-1"], "seed"),
        (["replay", "nowhere", "--rate", "10"], "nowhere does not exist"),
        (["replay", "nowhere"], "--rate"),
        (["replay", "nowhere", "--rate", "10", "--speed", "1"], "--rate"),
        (["replay", ".", "--rate", "10", "--mapping", "no.toml"], "no.toml"),
        (["replay", ".", "--rate", "10", "--mapping", "handbok"], "creditcard, handbook, paysim"),
        (["replay", "--nonsense"], "--nonsense"),
        (["replay", "nowhere", "--rate", "-1"], "--rate must be above 0"),
        (["replay", "nowhere", "--rate", "1", "--malformed", "0.7", "--duplicates", "0.7"], "together as well"),
        (
            ["replay", "nowhere", "--rate", "1", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"],
            "must be before --until",
        ),
        (["mapping", "nowhere.csv", "--output", "no/folder.toml"], "no, the folder for folder.toml, does not exist"),
        (["mapping", "nowhere.csv"], "nowhere.csv does not exist"),
        (["mapping", "."], "is a folder"),
        (["sample", "nothing", "x.csv"], "card-payments"),
    ],
)
def test_wrong_use_is_status_2_and_a_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = loadgen(*arguments)

    assert done.returncode == 2
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    assert says in " ".join(done.stderr.decode().split())


@pytest.mark.parametrize("command", ["simulate", "replay", "sample", "mapping"])
def test_help_has_an_example(command: str) -> None:
    done = loadgen(command, "--help")

    assert done.returncode == 0
    assert f"Example: loadgen {command}" in " ".join(done.stdout.decode().split())


def test_a_drafted_mapping_goes_to_standard_output_and_what_is_to_be_checked_to_people(tmp_path: Path) -> None:
    table = tmp_path / "payments.csv"
    assert loadgen("sample", "card-payments", str(table)).returncode == 0

    done = loadgen("mapping", str(table))

    assert done.returncode == 0
    drafted = msgspec.toml.decode(done.stdout, type=TableMapping)
    assert drafted.transaction.account_id == "card"
    assert b"to be checked:" in done.stderr
    assert b"gives the answer away" not in done.stderr

    filed = loadgen("mapping", str(table), "--output", str(tmp_path / "mapping.toml"), "--json")

    report = msgspec.json.decode(filed.stdout)
    assert (tmp_path / "mapping.toml").read_text(encoding="utf-8") == report["toml"] == done.stdout.decode()
    assert report["complete"]
    assert report["trial"]["transactions"] == report["rows"] == drafted_rows(table)
    assert {"key": "transaction.account_id", "value": '"card"', "columns": ["card"], "sure": True}.items() <= next(
        each for each in report["guesses"] if each["key"] == "transaction.account_id"
    ).items()


def test_an_edited_mapping_is_not_lost_to_another_draft(tmp_path: Path) -> None:
    output, table = tmp_path / "mapping.toml", tmp_path / "payments.csv"
    output.write_text("# edited", encoding="utf-8")

    refused = loadgen("mapping", "no-such-table.csv", "--output", str(output))

    assert refused.returncode == 2
    assert b"mapping.toml is there already; --force replaces it" in b" ".join(refused.stderr.split())
    assert output.read_text(encoding="utf-8") == "# edited"
    assert loadgen("sample", "card-payments", str(table)).returncode == 0
    assert loadgen("mapping", str(table), "--output", str(output), "--force").returncode == 0
    assert "edited" not in output.read_text(encoding="utf-8")


def test_a_sample_replaces_itself_and_no_other_table(tmp_path: Path) -> None:
    mine, sample = tmp_path / "mine.csv", tmp_path / "sample.csv"
    mine.write_text("my,own\n", encoding="utf-8")

    assert loadgen("sample", "paysim", str(sample)).returncode == 0
    assert loadgen("sample", "paysim", str(sample)).returncode == 0
    refused = loadgen("sample", "paysim", str(mine))
    assert refused.returncode == 2
    assert b"is another table; --force" in b" ".join(refused.stderr.split())
    assert mine.read_text(encoding="utf-8") == "my,own\n"
    assert loadgen("sample", "paysim", str(mine), "--force").returncode == 0


def drafted_rows(table: Path) -> int:
    return len(table.read_text(encoding="utf-8").splitlines()) - 1


def test_a_table_without_what_is_needed_is_status_1_and_names_it(tmp_path: Path) -> None:
    table = tmp_path / "payments.csv"
    table.write_text("id,who\n1,a\n2,b\n", encoding="utf-8")

    done = loadgen("mapping", str(table))

    assert done.returncode == 1
    assert b"transaction.amount (NEEDED)" in done.stderr
    assert b"# amount = " in done.stdout


def test_a_command_that_lives_elsewhere_is_imported_only_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def run(rate: int = 3, *, as_json: bool = typer.Option(False, "--json")) -> None:
        print(rate, as_json)

    module = types.ModuleType("loadgen.demo_command")
    vars(module)["app"] = app
    monkeypatch.setitem(sys.modules, "loadgen.demo_command", module)
    monkeypatch.setattr(sys, "argv", ["loadgen", "demo", "--rate", "7", "--json"])

    with pytest.raises(SystemExit) as ended:
        commands.main()

    assert ended.value.code == 0
    assert capsys.readouterr().out == "7 True\n"
