"""The key of the local stack: made once, for its owner's eyes, and given way to one that is set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.id_key import id_key
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
