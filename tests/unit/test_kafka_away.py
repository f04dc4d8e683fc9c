"""Where Kafka is away, a command says so before it does anything that takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from features.__main__ import main as features
from features.log import Log
from features.settings import Settings
from loadgen.target import Target
from schemas.errors import LogUnavailable, WrongSettings
from schemas.topics import KAFKA_ANSWERS_WITHIN, TRANSACTIONS
from streaming.dead_letters import main as dead_letters

PATIENCE = 20.0
"""Seconds; a busy machine's, where five are promised and thirty were taken."""


def test_five_seconds_are_enough() -> None:
    assert KAFKA_ANSWERS_WITHIN < 5


def test_what_reads_the_log_says_that_kafka_is_away(closed_port: int) -> None:
    began = time.monotonic()
    with (
        pytest.raises(LogUnavailable, match=f"Kafka at 127.0.0.1:{closed_port} does not answer"),
        Log(Settings(kafka_url=f"127.0.0.1:{closed_port}")),
    ):
        raise AssertionError("nobody is there")
    assert time.monotonic() - began < PATIENCE


def test_kafka_that_goes_away_while_a_topic_is_read_is_named_and_ends_no_worker(closed_port: int) -> None:
    log = Log(Settings(kafka_url=f"127.0.0.1:{closed_port}"), patience=0.5)
    with pytest.raises(LogUnavailable, match=r"transactions \[2\] can't be read"):
        next(log._messages(TRANSACTIONS, 2, 0, 1, 1))


def test_what_sends_and_reads_a_stream_says_so_too(closed_port: int) -> None:
    began = time.monotonic()
    with pytest.raises(WrongSettings, match=f"no Kafka answers at 127.0.0.1:{closed_port}"):
        Target(url=f"127.0.0.1:{closed_port}").partitions([TRANSACTIONS])
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    ("command", "main"),
    [(["features", "load", "no-such-table.parquet"], features), (["dead-letters", "list"], dead_letters)],
    ids=["load", "dead-letters"],
)
def test_a_command_asks_kafka_before_it_reads(
    command: list[str],
    main: Callable[[], None],
    closed_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAUD_KAFKA_URL", f"127.0.0.1:{closed_port}")
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert f"Kafka at 127.0.0.1:{closed_port} does not answer" in capsys.readouterr().err
