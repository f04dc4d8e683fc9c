"""What is sent again of a dead letter: the message as it came, to where it belongs, and which attempt that is."""

from __future__ import annotations

from typing import Any

import pytest

from features.log import Letter
from schemas.dead_letter import MOST_DETAIL, DeadLetter, cut_detail
from schemas.errors import Fault, WrongSettings
from schemas.partitioning import partition_of
from streaming.dead_letters import message_again
from tests.builders import a_dead_letter

VALUE = b"{nonsense"


def a_letter(key: bytes | None = b"acct-1", value: bytes | None = VALUE, **says: Any) -> Letter:
    """As it is read back from the topic."""
    return Letter(2, 17, DeadLetter.from_headers(a_dead_letter(**says).headers()), key, value)


def test_a_message_is_sent_again_as_it_came_to_the_partition_of_its_key() -> None:
    again = message_again(a_letter(topic="bank-labels", partition=3, fault=Fault.WRONG_PARTITION), 4)
    assert again[:4] == ("bank-labels", partition_of(b"acct-1", 4), b"acct-1", VALUE)


def test_a_message_without_a_key_goes_to_where_it_was() -> None:
    assert message_again(a_letter(key=None, value=None, partition=3), 4)[:4] == ("transactions", 3, None, None)


@pytest.mark.parametrize("attempt", [1, 2, 9])
def test_it_says_that_it_is_one_attempt_more(attempt: int) -> None:
    assert message_again(a_letter(attempt=attempt), 4).headers == [("attempt", str(attempt + 1))]


@pytest.mark.parametrize("detail", ["no JSON at byte 0", "x" * 2 * MOST_DETAIL], ids=["short", "cut as well"])
def test_a_message_of_which_only_the_beginning_is_kept_is_refused_by_name(detail: str) -> None:
    whole = b"x" * 5_000_000
    cut = a_letter(value=whole[:1024], detail=cut_detail(detail, whole, 1024))
    with pytest.raises(
        WrongSettings, match=r"2:17 was cut: of the message's 5,000,000 bytes it holds the first 1,024;"
    ):
        message_again(cut, 4)


def test_a_small_message_that_was_kept_whole_all_the_same_is_sent() -> None:
    """Where the message was fine and what was to be said of it was too large."""
    kept = a_letter(detail=cut_detail("too large", VALUE, len(VALUE)), fault=Fault.TOO_LARGE)
    assert message_again(kept, 4).value == VALUE


def test_records_that_are_gone_are_no_message() -> None:
    with pytest.raises(WrongSettings, match="2:17 is no message: it says that records are gone"):
        message_again(a_letter(value=None, fault=Fault.LOST, until=99), 4)
