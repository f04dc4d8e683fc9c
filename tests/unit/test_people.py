"""What commands print for people is whole where it goes to a file, and says what was meant."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.table import Table
from typer.testing import CliRunner

from features.people import console
from streaming.__main__ import app as streaming
from training.__main__ import app as training


def test_a_table_is_as_wide_as_what_it_says_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    detail = "`$.attributes[...]` is a list: " + "x" * 300
    table = Table("place", "detail")
    table.add_row("2:17", detail)
    console().print(table)

    assert detail in capsys.readouterr().out


def test_a_terminal_folds_and_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    screen = console()
    screen.file = io.StringIO()
    table = Table("place", "detail")
    table.add_row("2:17", " ".join(["[a]"] * 100))
    screen.print(table)

    said = screen.file.getvalue()
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in said.splitlines()) <= 60
    assert said.count("[a]") == 100


def test_square_brackets_are_not_eaten_by_help() -> None:
    said = " ".join(CliRunner().invoke(training, ["run", "--help"]).stdout.split())

    assert "in tables [learners.xgboost]" in said


def test_a_setting_is_shown_whole() -> None:
    said = CliRunner().invoke(streaming, ["settings"]).stdout
    as_json = CliRunner().invoke(streaming, ["settings", "--json"]).stdout

    lines = json.loads(as_json)
    assert len(lines) > 20
    assert all(line["meaning"] in said for line in lines)
