"""100,000 spoiled messages, and what each got.  POISON_SEED=2 spoils others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploy.local.jars import PROJECT
from deploy.local.stack import LocalStack
from tests.fleet.fleet import Fleet
from tests.poison.recipes import draw_many
from tests.poison.through import complaints, send

COUNT, LONGEST = 100_000, 50
SEED = int(os.environ.get("POISON_SEED", "1"))
SUMMARY = PROJECT / ".local" / "faults" / "poison.txt"


@pytest.mark.timeout(1800)  # as long as the machine is busy; ten minutes else
def test_poison(stack: LocalStack, prefix: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spoiled messages through one worker."""
    with capsys.disabled():
        print(f"\n{COUNT:,} spoiled messages, seed {SEED}", flush=True)
    recipes = draw_many(COUNT, SEED, LONGEST)
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        began = time.monotonic()
        outcome = send(fleet, worker, recipes)
        summary = f"{outcome}\n{time.monotonic() - began:.0f} s, one worker, started once; {len(outcome.wrong)} wrong"
        SUMMARY.parent.mkdir(parents=True, exist_ok=True)
        SUMMARY.write_text(f"seed {SEED}\n{summary}\n")
        with capsys.disabled():
            print(summary, flush=True)
        if outcome.wrong:
            pytest.fail(complaints(outcome), pytrace=False)
        fleet.check(dead_lettered={fault.value: count for fault, count in outcome.errors.items()})
