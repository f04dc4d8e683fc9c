"""Where a worker begins with a partition number: what it believes from one question to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from features.log import Log
from features.position import TopicIds
from schemas.errors import PartitionParked
from streaming import takeover as module
from streaming.settings import WorkerSettings
from streaming.takeover import Takeover
from tests.builders import ID_KEY, RULES


@dataclass
class MadeAnew:
    """A log whose topics have another id whenever somebody asks for them."""

    asked: int = 0
    seen: list[TopicIds] = field(default_factory=list)

    def topic_ids(self) -> list[str]:
        self.asked += 1
        return [f"{topic} {self.asked}" for topic in ("transactions", "labels", "activity")]

    def standing(self, number: int, _raw: bytes, *, topics: Callable[[], TopicIds], **_: object) -> None:
        self.seen.append(topics())
        raise PartitionParked(f"partition {number}: that is enough")


class NoPositions:
    """A Redis that has none."""

    def get(self, _key: str) -> None:
        return None


def test_the_topics_ids_are_asked_for_anew_whenever_everything_is_taken_over_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A topic that was made anew is why: its id from just before would be taken for the one of today."""
    monkeypatch.setattr(module, "IDS_LAST", 1_000.0)
    log = MadeAnew()
    takeover = Takeover(WorkerSettings(id_key=ID_KEY), RULES)
    takeover._log, takeover._redis = cast(Log, log), cast(Any, NoPositions())

    for generation, number in [(1, 0), (1, 1), (2, 0), (2, 1)]:
        assert takeover._answer(generation, number).parked is not None

    before, after = TopicIds(*[f"{topic} 1" for topic in ("transactions", "labels", "activity")]), log.seen[-1]
    assert log.seen == [before, before, after, after]
    assert after != before
