"""Whatever comes in, thousands of times over: a dead letter with the right error, or a verdict, and nobody else is touched.

`make faults ARGS="-k poison"` sends 100,000.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.fleet.fleet import Fleet
from tests.poison.recipes import draw_many
from tests.poison.through import complaints, send

COUNT, LONGEST, SEED = 3_000, 5, 1


def test_spoiled_messages_stop_nobody_and_each_gets_what_it_must(stack: LocalStack, prefix: str, bundle: Path) -> None:
    print(f"seed {SEED}")
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        outcome = send(fleet, worker, draw_many(COUNT, SEED, LONGEST))
        print(outcome)
        if outcome.wrong:
            pytest.fail(complaints(outcome), pytrace=False)
        fleet.check(dead_lettered={fault.value: count for fault, count in outcome.errors.items()})
