"""What Redis refuses is named with what mends it; one that is silent is given up in time; and nobody's id is in the words."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import redis

from features.__main__ import main
from features.pin import pin
from features.rebuild import asking, connect
from features.redis_store import RedisProfiles
from features.redis_words import why
from features.settings import Settings
from features.store import Wanted
from schemas.errors import StoreUnavailable, WrongSettings
from streaming.settings import WorkerSettings
from streaming.slot import Holder, Slot
from tests.unit.resp import NIL, Server

PATIENCE = 20.0
REFUSALS = {
    b"-OOM command not allowed when used memory > 'maxmemory'.": "Redis is full, and takes no writes: give it memory",
    b"-READONLY You can't write against a read only replica.": "FRAUD_REDIS_URL must name the primary",
    b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "the disk is full",
    b"-NOREPLICAS Not enough good replicas to write.": "too few of its replicas follow it",
    b"-LOADING Redis is loading the dataset in memory": "it answers when that is done",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "has lost its primary",
    b"-NOAUTH Authentication required.": "Redis asks for a password",
    b"-WRONGPASS invalid username-password pair or user is disabled.": "Redis refuses the user or the password",
    b"-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is "
    b"correct?": "Redis asks for no password, and FRAUD_REDIS_URL has one",
    b"-NOPERM this user has no permissions to run the 'get' command": "its ACL must allow the scorer's keys and commands",
    b"-CLUSTERDOWN The cluster is down": "the Redis cluster is down",
    b"-MOVED 3999 127.0.0.1:6381": "the scorer wants a single primary",
    b"-CROSSSLOT Keys in request don't hash to the same slot": "the scorer wants a single primary",
    b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": "SCRIPT KILL ends it",
    b"-ERR max number of clients reached": "raise its maxclients",
    b"-WRONGTYPE Operation against a key holding the wrong kind of value": "something that the scorer never wrote",
    b"-ERR Error running script (call to f_1): @user_script:5: -OOM command not allowed when used memory > 'maxmemory'.": (
        "Redis is full"
    ),
    b"-ERR something new": "Redis refuses: something new",
}


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.split(b" ")[0].decode())
def test_each_refusal_is_named_with_what_mends_it(refusal: bytes) -> None:
    with (
        Server(refusal + b"\r\n") as server,
        redis.Redis.from_url(server.url, socket_timeout=PATIENCE) as client,
        pytest.raises(redis.RedisError) as refused,
    ):
        client.get("key")

    assert REFUSALS[refusal] in why(refused.value)
    assert "does not answer" not in why(refused.value)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.split(b" ")[0].decode())
async def test_a_batch_that_redis_refuses_names_no_account(refusal: bytes) -> None:
    """What a batch asked stands in a pipeline, whose errors have the command in them, and its keys have ids."""
    with Server(refusal + b"\r\n") as server:
        store = RedisProfiles(server.url, timeout=PATIENCE)
        with pytest.raises(StoreUnavailable) as refused:
            await store.recall([Wanted(3, "{p3}:position", None, ["{p3}:e1:a:alice-of-the-hill"])])
        await store.close()

    assert REFUSALS[refusal] in str(refused.value)
    assert "alice" not in str(refused.value)


def silent(server: Server) -> Settings:
    return Settings(redis_url=server.url, redis_timeout=0.3)


@pytest.mark.parametrize("ask", [connect, lambda settings: asking(settings).get("key")], ids=["in bulk", "a question"])
def test_a_redis_that_accepts_and_never_answers_is_given_up_in_time_and_not_asked_twice(ask: object) -> None:
    assert callable(ask)
    with Server(answer=None) as server:
        began = time.monotonic()
        with pytest.raises((StoreUnavailable, redis.TimeoutError)):
            ask(silent(server))
        assert time.monotonic() - began < PATIENCE, "thirty seconds are for a server that is busy with what we send it"
        assert server.connections == 1


def test_show_ends_where_redis_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Server(answer=None) as server:
        monkeypatch.setenv("FRAUD_REDIS_URL", server.url)
        monkeypatch.setenv("FRAUD_REDIS_TIMEOUT", "0.3")
        monkeypatch.setattr(sys, "argv", ["features", "show", "alice"])
        began = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    assert "Redis does not answer" in capsys.readouterr().err
    assert time.monotonic() - began < PATIENCE


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_hears_of_a_redis_that_falls_silent_also_without_traffic() -> None:
    """The sign by which it holds its slot is what asks."""
    with Server(NIL) as server:
        slot = Slot(WorkerSettings(redis_url=server.url, redis_timeout=0.5))
        server.answer = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        taking = threading.Thread(target=slot.take, daemon=True)
        taking.start()
        until(lambda: "something that the scorer never wrote" in (slot.redis_trouble or ""))
        server.answer = NIL
        taking.join(PATIENCE)
        assert slot.redis_trouble is None
        server.answer = None
        until(lambda: "Redis does not answer" in (slot.redis_trouble or ""))
        server.answer = NIL
        until(lambda: slot.redis_trouble is None)
        slot.give_up()


@pytest.mark.parametrize(
    ("lease", "said"),
    [
        (None, "nobody else holds slot 3 of group g in Redis"),
        ("me", "nobody else holds slot 3 of group g in Redis"),
        ("other-host 77 1 k", "process 77 on other-host holds slot 3 of group g now"),
        ("what is this", "'what is this' holds slot 3 of group g now"),
    ],
)
def test_who_shut_a_worker_out_is_told_by_the_slots_lease(lease: str | None, said: str) -> None:
    me = Holder("here", 1, "2", "k")
    held = str(me) if lease == "me" else lease
    with Server(NIL if held is None else b"$%d\r\n%s\r\n" % (len(held), held.encode())) as server:
        slot = Slot(WorkerSettings(redis_url=server.url, redis_timeout=PATIENCE, group="g", slot=3), me)
        assert slot.why_fenced().startswith(said)
        server.answer = b"-LOADING Redis is loading\r\n"
        assert "either two workers have one slot" in slot.why_fenced()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (b"+another\r\n", "FRAUD_PARTITIONS is 4"),
        (
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            "redis-cli DEL '{bank-p}:partitions'",
        ),
    ],
)
def test_a_pin_that_is_none_is_refused_and_named(found: bytes, said: str) -> None:
    with Server(found) as server:
        settings = Settings(redis_url=server.url, topic_prefix="bank-")
        with pytest.raises(WrongSettings) as refused:
            pin(asking(settings), settings)
    assert said in str(refused.value)


def test_a_group_is_pinned_beside_the_partitions() -> None:
    with Server(b"+4\r\n") as server:
        settings = Settings(redis_url=server.url, group="4")
        pin(asking(settings), settings)
        with pytest.raises(
            WrongSettings, match="the profiles in Redis are of group '4', FRAUD_GROUP is 'fraud-scorer'"
        ):
            pin(asking(settings), Settings(redis_url=server.url))
        assert server.asked[:4] == [b"SET", b"GET"] * 2
