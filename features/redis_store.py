"""Profiles in Redis (or Valkey): one MGET a batch to read, one atomic compare-and-set a partition to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from features.redis_words import why
from features.store import MOST_AT_ONCE, Found, Wanted, check_positions
from schemas.errors import PositionMoved, StoreUnavailable, WrongSettings

# Position and profiles go in one MSET: a script with two writes would be torn by an append-only file cut between them.
COMPARE_AND_SET = """
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
local pairs = {}
for i = 1, #KEYS do pairs[2 * i - 1] = KEYS[i]; pairs[2 * i] = ARGV[i + 1] end
redis.call('MSET', unpack(pairs))
return false
"""


def retries() -> Retry:
    """Once more, at once: a connection that the server closed.  What lasts longer is a takeover's to wait for.

    Not after a time-out: a server that is silent would be waited for twice as long as was asked for.
    """
    return Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


async def check_server(client: redis.asyncio.Redis) -> None:
    """Raises WrongSettings where this server might drop a profile, StoreUnavailable."""
    try:
        policy = (await client.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
    except RedisError as error:
        raise StoreUnavailable(why(error)) from error
    if policy != "noeviction":
        raise WrongSettings(
            f"Redis has maxmemory-policy {policy}: it may drop a profile, and nobody would notice. "
            "Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)."
        )


class RedisProfiles:
    """A ProfileStore."""

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        """`timeout` in seconds, for connecting and for each answer."""
        self.client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=AsyncRetry(
                NoBackoff(), 1, supported_errors=(RedisConnectionError,)
            ),  # as `retries`, which would never await its second attempt
        )
        self._compare_and_set = self.client.register_script(COMPARE_AND_SET)

    async def position(self, key: str) -> bytes:
        """See ProfileStore."""
        try:
            found: Any = await self.client.get(key)
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
        return found or b""

    async def recall(self, wanted: Sequence[Wanted]) -> list[Found]:
        """See ProfileStore.  One round trip; an MGET for each partition, so that a cluster could serve it too."""
        try:
            async with self.client.pipeline(transaction=False) as pipeline:
                for want in wanted:
                    pipeline.mget([want.position_key, *want.keys])
                # Raised here, an error would have the command in its words, and with it the ids of accounts.
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
        for answer in answers:
            if isinstance(answer, RedisError):
                raise StoreUnavailable(why(answer)) from answer
        found = [Found(answer.pop(0) or b"", answer) for answer in answers]
        check_positions(wanted, found)
        return found

    async def remember(
        self, partition: int, position_key: str, profiles: Mapping[str, bytes], *, after: bytes, now: bytes
    ) -> None:
        """See ProfileStore."""
        assert len(profiles) <= MOST_AT_ONCE
        arguments: list[Any] = [after, now, *profiles.values()]
        try:
            found = await self._compare_and_set(keys=[position_key, *profiles], args=arguments)
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
        if found is not None and found != now:
            raise PositionMoved(partition, after, found)

    async def close(self) -> None:
        """Give the connections back."""
        await self.client.aclose()
