"""A slot is held by a lease in Redis: whoever may be alive keeps it."""

from __future__ import annotations

import pytest

from deploy.local.stack import LocalStack
from schemas.errors import WrongSettings
from streaming.settings import WorkerSettings
from streaming.slot import Holder, Slot


@pytest.fixture
def settings(stack: LocalStack, prefix: str) -> WorkerSettings:
    return WorkerSettings(kafka_url=stack.kafka_url, redis_url=stack.redis_url, topic_prefix=prefix, group=prefix)


def test_the_slot_of_a_live_worker_in_another_container_is_not_taken_whatever_its_host_is_called(
    settings: WorkerSettings,
) -> None:
    """There its number is 1, say, and nobody's here is; or somebody else's."""
    elsewhere = Slot(settings, Holder.here()._replace(started="1", kernel="another-boot/pid:[1]/time:[1]"))
    elsewhere.take()
    with pytest.raises(WrongSettings, match=f"slot 0 of group {settings.group} is taken by process"):
        Slot(settings).take()

    elsewhere.give_up()
    mine = Slot(settings)
    mine.take()
    mine.give_up()


def test_the_slot_of_a_process_that_was_killed_here_is_free_at_once(settings: WorkerSettings) -> None:
    killed = Slot(settings, Holder.here()._replace(started="1"))
    killed.take()
    mine = Slot(settings)
    mine.take()  # the other goes on renewing, which a killed one can't: it is refused
    killed.give_up()
    mine.give_up()
