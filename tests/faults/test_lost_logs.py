"""2,000 transactions a second, two workers, and a log that becomes another one: what is there is judged, once and rightly.

Whoever is on call gives the command that the parked partition names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from features.log import Log
from schemas.topics import ACTIVITY, INPUTS, LABELS, TRANSACTIONS, VERDICTS, Topic
from tests.fleet.cutting import cut
from tests.fleet.parked import make_anew, truncate
from tests.fleet.scenes import Scene, a_scene, name_of

NUMBER = 2


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, stack: LocalStack, prefix: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Scene]:
    """Two workers under load, and a log that loses records."""
    with a_scene(stack, prefix, bundle, name_of(request), capsys, loses=True) as scene:
        yield scene


def is_parked(scene: Scene, number: int) -> None:
    """Until the worker that has this partition number says that it is left out."""
    deadline = time.monotonic() + 120
    while not any(
        str(number) in scene.keeper.worker(slot).readiness().get("parked", {}) for slot in scene.keeper.slots
    ):
        assert time.monotonic() < deadline, [scene.keeper.worker(slot).readiness() for slot in scene.keeper.slots]
        time.sleep(0.1)


def end_of(scene: Scene, topic: Topic, number: int) -> int:
    with Log(scene.fleet.settings) as log:
        return log.bounds(topic, number)[1]


def lose_the_end(scene: Scene, topic: Topic) -> None:
    """Half of a partition is gone, and traffic goes on."""

    def lose() -> None:
        cut(scene.fleet, (topic, NUMBER, end_of(scene, topic, NUMBER) // 2))
        is_parked(scene, NUMBER)
        scene.for_a_while(3, 4)  # it is written on
        is_parked(scene, NUMBER)
        scene.by_hand("features", "rebuild", "--partition", str(NUMBER), "--accept-loss")

    scene.faults.append(time.monotonic())
    lose()
    scene.for_a_while(5, 6)


def test_transactions_that_lost_their_end(scene: Scene) -> None:
    """A partition of transactions comes back shorter, and is written on."""
    lose_the_end(scene, TRANSACTIONS)


def test_labels_that_lost_their_end(scene: Scene) -> None:
    """A partition of labels comes back shorter, and is written on."""
    lose_the_end(scene, LABELS)


def test_activity_that_lost_its_end(scene: Scene) -> None:
    """A partition of counterparty-activity comes back shorter."""
    lose_the_end(scene, ACTIVITY)


def test_verdicts_that_lost_their_end(scene: Scene) -> None:
    """A partition of verdicts comes back shorter, with both workers killed."""
    scene.faults.append(time.monotonic())
    for slot in scene.keeper.slots:
        scene.keeper.lose(slot)
    with Log(scene.fleet.settings) as log:
        end = log.bounds(VERDICTS, NUMBER)[1]
    cut(scene.fleet, (VERDICTS, NUMBER, end // 2))
    for slot in (0, 1):
        scene.keeper.keep(slot)
    is_parked(scene, NUMBER)
    scene.by_hand("features", "rebuild", "--partition", str(NUMBER), "--accept-loss")
    scene.for_a_while(5, 6)


def test_inputs_made_anew(scene: Scene) -> None:
    """The inputs are deleted and made anew under running workers."""
    scene.faults.append(time.monotonic())
    make_anew(scene.fleet, *INPUTS)
    for number in range(4):
        is_parked(scene, number)
    scene.for_a_while(3, 4)
    scene.by_hand("features", "rebuild")
    scene.for_a_while(5, 6)


def test_inputs_made_anew_while_workers_are_away(scene: Scene) -> None:
    """The inputs are deleted and made anew, and the outputs kept, with no worker there."""
    scene.faults.append(time.monotonic())
    for slot in scene.keeper.slots:
        scene.keeper.lose(slot)
    make_anew(scene.fleet, *INPUTS)
    scene.for_a_while(1, 2)
    scene.by_hand("features", "rebuild")
    for slot in (0, 1):
        scene.keeper.keep(slot)
    scene.for_a_while(5, 6)


def test_labels_made_anew(scene: Scene) -> None:
    """The labels are deleted and made anew under running workers."""
    scene.faults.append(time.monotonic())
    make_anew(scene.fleet, LABELS)
    for number in range(4):
        is_parked(scene, number)
    scene.by_hand("features", "rebuild")
    scene.for_a_while(5, 6)


def test_retention(scene: Scene) -> None:
    """Retention takes the beginning of the transactions."""
    scene.faults.append(time.monotonic())
    for number in range(4):
        truncate(scene.fleet, number, end_of(scene, TRANSACTIONS, number) // 3)
    scene.for_a_while(5, 6)


def test_a_gap(scene: Scene) -> None:
    """Retention takes transactions before they are folded, with both workers killed."""
    scene.faults.append(time.monotonic())
    for slot in scene.keeper.slots:
        scene.keeper.lose(slot)
    scene.for_a_while(2, 3)
    position = scene.fleet.position(NUMBER)
    assert position is not None
    truncate(scene.fleet, NUMBER, position.next.transactions + 100)
    for slot in (0, 1):
        scene.keeper.keep(slot)
    is_parked(scene, NUMBER)
    scene.by_hand("features", "skip-gap", "--partition", str(NUMBER))
    scene.for_a_while(5, 6)
