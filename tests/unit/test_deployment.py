"""Which models judge: how one deployment follows from another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deployment import (
    KEPT,
    Deployment,
    Kind,
    Model,
    challenged,
    decode_deployment,
    promoted,
    rolled_back,
    withdrawn,
)
from schemas.wire import encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, OTHER = (Model(bundle=name * 16, version=str(i)) for i, name in enumerate("abc"))


def first() -> Deployment:
    return promoted(None, OLD, at=NOW, by="me", why="the first")


def test_a_promotion_keeps_the_former_champion_for_a_rollback() -> None:
    until = NOW + timedelta(minutes=10)
    after = promoted(first(), NEW, at=NOW, by="me", why="better", probation_until=until)
    assert (after.number, after.champion, after.former, after.probation_until) == (2, NEW, OLD, until)

    back = rolled_back(after, NEW.bundle, at=NOW, by="worker 0", why="alerts three times as often")
    assert (back.number, back.champion, back.former, back.probation_until) == (3, OLD, None, None)
    assert back.changes[-1].kind is Kind.ROLLED_BACK
    assert back.sent_back(NEW.bundle) == back.changes[-1]
    assert back.sent_back(OLD.bundle) is None


def test_what_was_served_before_anything_was_deployed_is_the_former_one() -> None:
    after = promoted(None, NEW, at=NOW, by="me", why="better", former=OLD, probation_until=NOW)
    assert (after.champion, after.former, after.probation_until) == (NEW, OLD, NOW)


def test_a_challenger_goes_and_the_champion_stays() -> None:
    tried = challenged(first(), NEW, 0.1, at=NOW, by="me", why="promising")
    assert (tried.champion, tried.challenger, tried.share) == (OLD, NEW, 0.1)
    for after in (
        withdrawn(tried, at=NOW, by="me", why="enough"),
        rolled_back(tried, NEW.bundle, at=NOW, by="worker 0", why="NaN"),
    ):
        assert (after.champion, after.challenger, after.share) == (OLD, None, 0.0)


def test_a_challenger_that_is_promoted_challenges_no_more() -> None:
    tried = challenged(first(), NEW, 0.1, at=NOW, by="me", why="promising")
    after = promoted(tried, NEW, at=NOW, by="me", why="better")
    assert (after.champion, after.challenger, after.share, after.former) == (NEW, None, 0.0, OLD)


def test_what_is_promoted_again_is_not_its_own_former() -> None:
    twice = promoted(promoted(first(), NEW, at=NOW, by="me", why=""), NEW, at=NOW, by="me", why="")
    assert (twice.champion, twice.former) == (NEW, OLD)
    assert promoted(first(), OLD, at=NOW, by="me", why="", probation_until=NOW).probation_until is None


def test_what_is_not_deployed_cant_be_sent_back() -> None:
    with pytest.raises(ValueError, match="neither champion nor challenger"):
        rolled_back(first(), NEW.bundle, at=NOW, by="me", why="")
    with pytest.raises(ValueError, match="no champion before"):
        rolled_back(first(), OLD.bundle, at=NOW, by="me", why="")
    with pytest.raises(ValueError, match="no challenger"):
        withdrawn(first(), at=NOW, by="me", why="")


@given(st.lists(st.sampled_from(["promote", "challenge", "withdraw", "back"]), max_size=KEPT + 20), st.data())
def test_whatever_is_done_a_deployment_is_one(steps: list[str], data: st.DataObject) -> None:
    now = first()
    for step in steps:
        model = data.draw(st.sampled_from([OLD, NEW, OTHER]))
        before = now
        try:
            match step:
                case "promote":
                    now = promoted(now, model, at=NOW, by="me", why="", probation_until=NOW)
                case "challenge":
                    now = challenged(now, model, 0.5, at=NOW, by="me", why="")
                case "withdraw":
                    now = withdrawn(now, at=NOW, by="me", why="")
                case _:
                    now = rolled_back(now, model.bundle, at=NOW, by="me", why="")
        except ValueError:
            continue
        assert now.number == before.number + 1 == now.changes[-1].number
        assert len(now.changes) <= KEPT
        assert now.former != now.champion
        assert now.challenger is None or now.challenger.bundle != now.champion.bundle
        assert (now.share == 0) >= (now.challenger is None)
        assert (now.former is None) <= (now.probation_until is None)
        assert decode_deployment(encode(now)) == now
