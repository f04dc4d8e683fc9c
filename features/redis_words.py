"""Why Redis did not do what it was asked, in words that name what mends it: one place for all that speak to it."""

from __future__ import annotations

from redis import exceptions
from redis.exceptions import RedisError

from schemas import masking

_MENDED_BY: tuple[tuple[str, type[RedisError], str], ...] = (
    (
        "OOM",
        exceptions.OutOfMemoryError,
        "Redis is full, and takes no writes: give it memory (CONFIG SET maxmemory …, and in redis.conf), or remove what is "
        "not the scorer's",
    ),
    (
        "READONLY",
        exceptions.ReadOnlyError,
        "Redis is a replica, which takes no writes: FRAUD_REDIS_URL must name the primary",
    ),
    (
        "MISCONF",
        RedisError,
        "Redis can't save to its disk, and takes no writes: its own log says why; most often the disk is full",
    ),
    (
        "NOREPLICAS",
        RedisError,
        "Redis takes no writes, for too few of its replicas follow it: start them, or lower min-replicas-to-write",
    ),
    (
        "LOADING",
        exceptions.BusyLoadingError,
        "Redis reads its data from the disk, as after every start: it answers when that is done",
    ),
    ("MASTERDOWN", exceptions.MasterDownError, "Redis is a replica that has lost its primary: start that one"),
    (
        "invalid username-password pair",
        RedisError,
        "Redis refuses the user or the password of FRAUD_REDIS_URL: redis://user:password@host:port/0",
    ),
    (
        "without any password configured",
        RedisError,
        "Redis asks for no password, and FRAUD_REDIS_URL has one: redis://host:port/0",
    ),
    (
        "NOAUTH",
        exceptions.AuthenticationError,
        "Redis asks for a password, and FRAUD_REDIS_URL has none that it takes: redis://user:password@host:port/0",
    ),
    (
        "NOPERM",
        exceptions.NoPermissionError,
        "Redis does not let the user of FRAUD_REDIS_URL do this: its ACL must allow the scorer's keys and commands, EVAL "
        "among them",
    ),
    (
        "CLUSTERDOWN",
        exceptions.ClusterDownError,
        "the Redis cluster is down, or a part of it: CLUSTER INFO says which slots nobody serves",
    ),
    (
        "MOVED",
        exceptions.AskError,
        "Redis is a cluster, and one node has not all of the keys: the scorer wants a single primary (with its replicas)",
    ),
    (
        "CROSSSLOT",
        exceptions.ClusterCrossSlotError,
        "Redis is a cluster, and one node has not all of the keys: the scorer wants a single primary (with its replicas)",
    ),
    ("BUSY", RedisError, "Redis runs somebody's script that does not end: SCRIPT KILL ends it"),
    (
        "max number of clients",
        RedisError,
        "Redis takes no more connections: raise its maxclients, or end other clients",
    ),
    (
        "WRONGTYPE",
        RedisError,
        "a key of the scorer's holds something that the scorer never wrote: somebody else writes to this Redis under its names",
    ),
    ("unknown command", RedisError, "Redis is too old, or a proxy before it leaves commands out"),
)


def why(error: RedisError) -> str:
    """What it was, and what mends it.  The server's own words stand behind, in brackets."""
    text = masking.text(str(error))
    word = text.split(" ", 1)[0]
    for name, kind, meaning in _MENDED_BY:
        # A script's error carries the word somewhere in its text, and redis-py has no class for all of them.
        if word == name or (kind is not RedisError and isinstance(error, kind)) or name in text:
            return f"{meaning} ({text})"
    if isinstance(error, exceptions.ResponseError):
        return f"Redis refuses: {text}"
    return f"Redis does not answer: {text}"
