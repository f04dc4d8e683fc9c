"""What every store of profiles promises.  The same tests run against the one in memory and against a real Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import redis
import redis.asyncio

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.stack import LocalStack
from features.position import Keys
from features.redis_store import RedisProfiles, check_server
from features.store import MOST_AT_ONCE, Found, InMemoryProfiles, ProfileStore, Wanted
from schemas.errors import PositionMoved, StoreUnavailable, WrongSettings

EMPTY = b""
P1, P2, P3 = b"f|e1|t|1,0,0", b"f|e1|t|2,0,0", b"f|e1|t|3,0,0"


class Partition:
    """One partition number's part of a store, as a worker uses it."""

    def __init__(self, store: ProfileStore, keys: Keys, number: int = 3) -> None:
        self.store, self.keys, self.number = store, keys, number

    def key(self, account: str) -> str:
        return self.keys.account("e1", account)

    async def position(self) -> bytes:
        return await self.store.position(self.keys.position)

    async def recall(self, *accounts: str, at: bytes | None = None) -> Found:
        (found,) = await self.store.recall([self.wanted(*accounts, at=at)])
        return found

    def wanted(self, *accounts: str, at: bytes | None = None) -> Wanted:
        return Wanted(self.number, self.keys.position, at, [self.key(account) for account in accounts])

    async def remember(self, after: bytes, now: bytes, **profiles: bytes) -> None:
        named = {self.key(account): blob for account, blob in profiles.items()}
        await self.store.remember(self.number, self.keys.position, named, after=after, now=now)


class ProfileStoreContract:
    """Subclass it with a `store` fixture."""

    @pytest.fixture
    def partition(self, store: ProfileStore, prefix: str) -> Partition:
        return Partition(store, Keys(prefix, 3))

    @pytest.fixture
    def neighbour(self, store: ProfileStore, prefix: str) -> Partition:
        return Partition(store, Keys(prefix, 2), 2)

    async def test_a_partition_never_written_has_an_empty_position_and_no_profiles(self, partition: Partition) -> None:
        assert await partition.position() == EMPTY
        assert await partition.recall("alice", "bob", at=EMPTY) == Found(EMPTY, [None, None])
        assert await partition.recall() == Found(EMPTY, [])

    async def test_what_was_remembered_is_recalled_with_the_position_it_is_bound_to(self, partition: Partition) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1", bob=b"\x00\xff")

        assert await partition.position() == P1
        assert await partition.recall("bob", "carol", "alice", at=P1) == Found(P1, [b"\x00\xff", None, b"a1"])

    async def test_what_is_not_written_again_stays(self, partition: Partition) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1", bob=b"b1")
        await partition.remember(P1, P2, bob=b"b2")

        assert await partition.recall("alice", "bob", at=P2) == Found(P2, [b"a1", b"b2"])

    async def test_the_position_moves_also_where_no_profile_changed(self, partition: Partition) -> None:
        await partition.remember(EMPTY, P1)
        await partition.remember(P1, P2)

        assert await partition.position() == P2

    @pytest.mark.parametrize("believed", [EMPTY, P1, P3])
    async def test_a_superseded_worker_changes_nothing(self, partition: Partition, believed: bytes) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")
        await partition.remember(P1, P2, alice=b"a2")

        with pytest.raises(PositionMoved, match="partition 3"):
            await partition.remember(believed, b"f|e1|t|9,9,9", alice=b"stale", bob=b"stale")

        assert await partition.recall("alice", "bob", at=P2) == Found(P2, [b"a2", None])

    async def test_a_worker_that_believes_in_a_position_where_there_is_none_changes_nothing(
        self, partition: Partition
    ) -> None:
        with pytest.raises(PositionMoved):
            await partition.remember(P1, P2, alice=b"a2")

        assert await partition.recall("alice", at=EMPTY) == Found(EMPTY, [None])

    async def test_an_answer_that_was_lost_counts_as_success(self, partition: Partition) -> None:
        for _ in range(2):
            await partition.remember(EMPTY, P1, alice=b"a1")
        for _ in range(2):
            await partition.remember(P1, P2, alice=b"a2")

        assert await partition.recall("alice", at=P2) == Found(P2, [b"a2"])

    async def test_a_write_that_came_twice_writes_once(self, partition: Partition) -> None:
        """The second finds its own position there, and must not write over what came after it in the same instant."""
        await partition.remember(EMPTY, P1, alice=b"a1")
        await partition.remember(EMPTY, P1, alice=b"of a repeated attempt")

        assert await partition.recall("alice", at=P1) == Found(P1, [b"a1"])

    @pytest.mark.parametrize("believed", [EMPTY, P2])
    async def test_a_profile_at_another_position_is_not_recalled(self, partition: Partition, believed: bytes) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")

        with pytest.raises(PositionMoved) as moved:
            await partition.recall("alice", at=believed)
        assert moved.value.partition == 3

    async def test_who_believes_nothing_is_told_where_it_is(self, partition: Partition) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")

        assert await partition.recall("alice", at=None) == Found(P1, [b"a1"])

    async def test_several_partitions_are_recalled_in_the_order_asked_for(
        self, partition: Partition, neighbour: Partition
    ) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")
        await neighbour.remember(EMPTY, P2, alice=b"n2")

        wanted = [neighbour.wanted("alice", "bob", at=P2), partition.wanted("alice", at=P1), neighbour.wanted()]
        assert await partition.store.recall(wanted) == [Found(P2, [b"n2", None]), Found(P1, [b"a1"]), Found(P2, [])]
        assert await partition.store.recall([]) == []

    async def test_one_partition_that_moved_is_named_and_nothing_is_recalled(
        self, partition: Partition, neighbour: Partition
    ) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")

        with pytest.raises(PositionMoved) as moved:
            await partition.store.recall([partition.wanted("alice", at=P1), neighbour.wanted("alice", at=P1)])
        assert moved.value.partition == 2

    async def test_partitions_dont_share_positions_or_profiles(
        self, partition: Partition, neighbour: Partition
    ) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")

        assert await neighbour.recall("alice", at=EMPTY) == Found(EMPTY, [None])

    async def test_profiles_of_another_epoch_are_not_seen(self, partition: Partition) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")
        other = Wanted(3, partition.keys.position, P1, [partition.keys.account("e2", "alice")])

        assert await partition.store.recall([other]) == [Found(P1, [None])]

    async def test_as_many_as_one_write_may_hold_are_written_in_one(self, partition: Partition) -> None:
        profiles = {f"account-{n}": b"%d" % n for n in range(MOST_AT_ONCE)}
        await partition.remember(EMPTY, P1, **profiles)

        assert (await partition.recall(*profiles, at=P1)).profiles == list(profiles.values())

    async def test_large_profiles_and_names_of_any_kind_are_kept(self, partition: Partition) -> None:
        names = ["é" * 64, 'a"b\\c', "a b\r\n", "}{", "\x00", "x" * 128]
        profiles = {name: os.urandom(20_000) for name in names}
        await partition.remember(EMPTY, P1, **profiles)

        assert (await partition.recall(*names, at=P1)).profiles == list(profiles.values())


class TestInMemoryProfiles(ProfileStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryProfiles:
        return InMemoryProfiles()

    @pytest.fixture
    def prefix(self) -> str:
        return ""


@pytest.mark.integration
class TestRedisProfiles(ProfileStoreContract):
    @pytest.fixture
    async def store(self, stack: LocalStack) -> AsyncIterator[RedisProfiles]:
        profiles = RedisProfiles(stack.redis_url)
        yield profiles
        await profiles.close()

    @pytest.fixture
    def server(self, stack: LocalStack) -> redis.Redis:
        return redis.Redis.from_url(stack.redis_url)

    async def test_a_write_is_one_command_in_the_servers_log(self, partition: Partition, server: redis.Redis) -> None:
        """Position and profiles in two would be torn by an append-only file that is cut between them."""
        await partition.remember(EMPTY, P1, alice=b"a1", bob=b"b1")
        before = writes(server)
        await partition.remember(P1, P2, alice=b"a2", bob=b"b2", carol=b"c2")
        after = writes(server)

        assert {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)} == {
            "mset": 1
        }

    async def test_a_refused_write_writes_nothing(self, partition: Partition, server: redis.Redis) -> None:
        before = writes(server)
        with pytest.raises(PositionMoved):
            await partition.remember(P1, P2, alice=b"a2")

        assert writes(server) == before

    async def test_nothing_that_was_remembered_will_be_forgotten(
        self, partition: Partition, server: redis.Redis
    ) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")

        assert server.ttl(partition.key("alice")) == server.ttl(partition.keys.position) == -1

    async def test_a_partitions_keys_lie_in_one_slot_of_a_cluster(self, partition: Partition) -> None:
        tags = {name[name.index("{") : name.index("}")] for name in (partition.keys.position, partition.key("}{"))}

        assert len(tags) == 1

    async def test_a_server_that_may_drop_profiles_is_refused(self, store: RedisProfiles, server: redis.Redis) -> None:
        await check_server(store.client)
        server.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(WrongSettings, match="allkeys-lru"):
                await check_server(store.client)
        finally:
            server.config_set("maxmemory-policy", "noeviction")

    async def test_a_script_that_the_server_forgot_is_sent_again(
        self, partition: Partition, server: redis.Redis
    ) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")
        server.script_flush()
        await partition.remember(P1, P2, alice=b"a2")

        assert await partition.position() == P2

    async def test_a_connection_that_the_server_closed_is_made_again(
        self, partition: Partition, server: redis.Redis
    ) -> None:
        await partition.remember(EMPTY, P1, alice=b"a1")
        server.client_kill_filter(_type="normal", skipme=True)
        assert await partition.recall("alice", at=P1) == Found(P1, [b"a1"])
        server.client_kill_filter(_type="normal", skipme=True)
        await partition.remember(P1, P2)

        assert await partition.position() == P2


def writes(server: redis.Redis) -> dict[str, int]:
    """How often each command that changes something was called."""
    stats: Any = server.info("commandstats")
    changing = ("mset", "set", "del", "unlink", "hset", "expire", "rename", "append", "incr")
    return {name: stats[f"cmdstat_{name}"]["calls"] for name in changing if f"cmdstat_{name}" in stats}


def asks(store: ProfileStore) -> Mapping[str, Callable[[], Awaitable[object]]]:
    partition = Partition(store, Keys("", 3))
    return {
        "position": partition.position,
        "recall": lambda: partition.recall("alice"),
        "remember": lambda: partition.remember(EMPTY, P1, alice=b"a1"),
    }


@pytest.mark.parametrize("ask", ["position", "recall", "remember"])
async def test_where_redis_is_not_there_it_is_unavailable_and_said_at_once(ask: str) -> None:
    (port,) = free_ports(1)
    store = RedisProfiles(f"redis://{LOOPBACK}:{port}/0", timeout=0.5)

    with pytest.raises(StoreUnavailable, match="Redis does not answer"):
        await asks(store)[ask]()
    with pytest.raises(StoreUnavailable):
        await check_server(store.client)
    await store.close()
