"""Whose profiles lie in Redis under a prefix: they are one group's, and folded for one number of partitions."""

from __future__ import annotations

from typing import Any

import redis

from features.settings import Settings
from schemas.errors import WrongSettings


def pin(client: redis.Redis, settings: Settings) -> None:
    """Note the group and the number of partitions where nobody has yet.

    Raises WrongSettings where others were noted, RedisError.
    """
    tag = f"{{{settings.topic_prefix}p}}"
    partitions = _noted(client, f"{tag}:partitions", str(settings.partitions))
    if partitions != str(settings.partitions):
        raise WrongSettings(
            f"the profiles in Redis were folded for {partitions} partitions, FRAUD_PARTITIONS is {settings.partitions}; "
            f"another number means a rebuild under another FRAUD_TOPIC_PREFIX (the pin is {tag}:partitions)"
        )
    group = _noted(client, f"{tag}:group", settings.group)
    if group != settings.group:
        raise WrongSettings(
            f"the profiles in Redis are of group {group!r}, FRAUD_GROUP is {settings.group!r}: two groups would judge every "
            f"transaction twice and write over each other's profiles. Give the other one its own FRAUD_TOPIC_PREFIX; or, to "
            f"move to {settings.group!r} for good, stop all workers and `redis-cli DEL '{tag}:group'`"
        )


def _noted(client: redis.Redis, key: str, mine: str) -> str:
    try:
        client.set(key, mine, nx=True)
        found: Any = client.get(key)
    except redis.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        raise WrongSettings(
            f"{key} is no string in Redis: somebody else wrote it; `redis-cli DEL '{key}'`, with all workers stopped"
        ) from error
    if found is None:
        return mine  # removed between the two
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)
