"""README's way from a table to verdicts by one's own model, line by line as it stands there, in a fresh clone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.local.jars import PROJECT
from deploy.local.supervisor import Standing
from features.log import Log
from features.settings import Settings
from schemas.topics import VERDICTS
from tests.clones import Clone

MINUTES = 60.0
WALK = re.compile(r"<!-- walk -->\n```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    made = Clone.make(tmp_path / "clone")
    try:
        yield made
    finally:
        made.run("make down", timeout=2 * MINUTES)


@pytest.mark.timeout(60 * MINUTES)  # a bound, and no measure: it takes one or two on a quiet machine
def test_from_a_table_to_verdicts_by_ones_own_model(clone: Clone) -> None:
    (script,) = WALK.findall((PROJECT / "README.md").read_text())

    # MLflow's database takes a quarter of a minute to make, and has no part in it.
    walked = clone.run(script, timeout=55 * MINUTES, environment={"FRAUD_MLFLOW": "false"})

    assert walked.returncode == 0, walked.stdout + walked.stderr
    said = walked.stdout + walked.stderr
    for nothing in ("lost", "doubled", "contradicting"):
        assert re.search(rf"^ {nothing} +0 *$", said, re.MULTILINE), said
    assert "profiles compared" in said
    mine = (clone.folder / ".local" / "bank-bundles" / "current").resolve().name
    assert f"model       {mine}: learnt here" in said
    assert not (clone.folder / ".local" / "bundles").exists(), "the demo's model has no part in it"

    standing = clone.run("make -s status ARGS=--json", timeout=MINUTES)
    running = msgspec.json.decode(standing.stdout, type=Standing)
    assert verdicts_by(running) == {mine: 884}

    ended = clone.run("make down", timeout=2 * MINUTES)
    assert "ended bank-" in ended.stdout
    assert clone.run("make -s status", timeout=MINUTES).returncode != 0


def verdicts_by(running: Standing) -> dict[str, int]:
    """How many each bundle judged."""
    settings = Settings(kafka_url=str(running.kafka), redis_url=str(running.redis), topic_prefix=running.prefix)
    found: dict[str, int] = {}
    with Log(settings) as log:
        for number in range(settings.partitions):
            for records in log.read(VERDICTS, number, *log.bounds(VERDICTS, number)):
                for record in records:
                    bundle = msgspec.json.decode(record.value or b"")["bundle"]
                    found[bundle] = found.get(bundle, 0) + 1
    return found
