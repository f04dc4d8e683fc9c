"""The key of the local stack: made once, for its owner's eyes, and given way to one that is set."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.__main__ import exports
from deploy.local.id_key import id_key
from deploy.local.supervisor import Standing
from features.hash_keys import HashKeys
from tests.builders import ID_KEY


def test_a_key_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "local" / "id-key"

    made = id_key({}, file)

    assert HashKeys.of(made).fingerprint
    assert file.stat().st_mode & 0o777 == 0o600
    assert id_key({}, file) == made
    assert [path.name for path in file.parent.iterdir()] == ["id-key"]


def test_two_that_begin_at_once_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        keys = list(threads.map(lambda _: id_key({}, tmp_path / "id-key"), range(16)))

    assert len(set(keys)) == 1


def test_a_key_that_is_set_comes_before_the_files(tmp_path: Path) -> None:
    assert id_key({"FRAUD_ID_KEY": ID_KEY}, tmp_path / "id-key") == ID_KEY
    assert not (tmp_path / "id-key").exists()


def test_what_a_shell_evaluates_sets_the_key_before_any_worker_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `make servers`: the past is loaded before what judges is started, and folded by the same key."""
    monkeypatch.delenv("FRAUD_ID_KEY", raising=False)
    file = tmp_path / "some folder" / "id-key"
    servers = Standing(pid=1, born=0.0, kafka="127.0.0.1:1", redis="redis://127.0.0.1:2/0")

    lines = exports(servers, file)

    evaluated = subprocess.run(
        ["sh", "-c", "\n".join([*lines, 'printf %s "$FRAUD_ID_KEY"'])], capture_output=True, text=True, check=True
    )
    assert evaluated.stdout == id_key({}, file)
    assert HashKeys.of(evaluated.stdout).fingerprint
    assert not [line for line in lines if evaluated.stdout in line], "it is printed nowhere"

    monkeypatch.setenv("FRAUD_ID_KEY", ID_KEY)
    assert exports(servers, file) == lines[:-1]
