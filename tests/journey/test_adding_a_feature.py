"""CONTRIBUTING's example of a feature, added as it stands there, is in vectors, catalogue and page, and passes what tests it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.local.jars import PROJECT
from features.catalogue import DIGEST, FEATURES

ADDED = "account_largest_share_24h"
HELD_TO = (
    "tests/unit/test_catalogue.py",
    "tests/unit/test_kernel.py::test_an_account_is_described_as_by_hand",
    "tests/unit/test_kernel.py::test_a_busy_account_is_described_as_by_hand",
)
"""What every feature is held to: named in catalogue, kernel, page and by hand, and equal there."""
ASK = f"""
import json
from datetime import UTC, datetime, timedelta
from features.accepting import Record, Rules
from features.catalogue import DIGEST, FEATURES, column
from features.catalogue_page import page
from features.describing import Describer, needed, read
from schemas.partitioning import partition_of
from schemas.transaction import Transaction
from schemas.wire import encode

at = datetime(2026, 3, 2, 12, tzinfo=UTC)
payments = [
    Transaction(
        transaction_id=f"tx-{{n}}", account_id="anna", amount=amount, currency="EUR",
        occurred_at=at + timedelta(hours=n),
    )
    for n, amount in enumerate((3000, 7000, 500))
]
rules = Rules()
home = partition_of(b"anna", rules.partitions)
arrived = round((at + timedelta(days=1)).timestamp() * 1000)
batch = read(rules, [(Record(home, n, arrived, b"anna", encode(one)), True) for n, one in enumerate(payments)])
vectors = Describer(rules).describe(batch, needed(batch, rules.partitions), [None], []).vectors
told = [None if value != value else round(float(value), 6) for value in vectors[:, column("{ADDED}")]]
print(json.dumps([told, DIGEST, len(FEATURES), "{ADDED}" in page()]))
"""


def test_the_example_of_a_feature_works_as_it_stands(tmp_path: Path) -> None:
    for folder in ("features", "schemas", "tests", "docs"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    hunks = hunks_of((PROJECT / "CONTRIBUTING.md").read_text())
    assert len(hunks) == 4
    for name, before, after in hunks:
        file = tmp_path / name
        text = file.read_text()
        assert text.count(before) == 1, f"CONTRIBUTING shows lines that {name} has not once:\n{before}"
        file.write_text(text.replace(before, after))

    asked = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert asked.returncode == 0, asked.stderr
    told, digest, count, on_the_page = json.loads(asked.stdout)
    assert told == [None, 1.0, 0.7]
    assert (count, on_the_page) == (len(FEATURES) + 1, True)
    assert digest != DIGEST, "or older bundles would be served"

    catalogue = tmp_path / "tests" / "unit" / "test_catalogue.py"  # which wants to be told that somebody means it
    assert catalogue.read_text().count(DIGEST) == 1
    catalogue.write_text(catalogue.read_text().replace(DIGEST, digest))
    written = subprocess.run(
        [sys.executable, "-m", "features.catalogue_page", "--write"], cwd=tmp_path, capture_output=True, check=False
    )
    assert written.returncode == 0, written.stderr
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *HELD_TO],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout


def hunks_of(text: str) -> list[tuple[str, str, str]]:
    """File, lines before and lines after, of the diff in a text."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    hunks: list[tuple[str, str, str]] = []
    for name, lines in re.findall(r"^--- (\S+)\n((?:[ +].*\n)+)", diff, re.MULTILINE):
        parts = lines.splitlines(keepends=True)
        hunks.append((name, "".join(one[1:] for one in parts if one[0] == " "), "".join(one[1:] for one in parts)))
    return hunks
