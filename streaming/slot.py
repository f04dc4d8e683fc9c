"""A worker's slot, held in Redis while it runs: two workers with one slot would fence each other for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import redis

from features.redis_store import retries
from features.redis_words import why
from schemas.errors import WrongSettings
from streaming.settings import WorkerSettings

LEASE = 3.0
"""Seconds that a slot stays taken after its worker's last sign."""
BOTH_CAUSES = (
    "either two workers have one slot (set FRAUD_SLOT to another number for one of them), or Kafka, or this worker, stood still "
    "for longer than FRAUD_SESSION_TIMEOUT or FRAUD_TRANSACTION_TIMEOUT (start it again)"
)
"""Why Kafka shuts a worker out, where nothing tells which it was."""
_PATIENCE = 0.6
"""Of FRAUD_REDIS_TIMEOUT: how long a sign is waited for."""
_RENEW = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_GIVE_UP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_UNKNOWN = "-"


class Holder(NamedTuple):
    """A process that holds a slot, as its lease names it."""

    host: str
    pid: int
    started: str
    """When, in the kernel's ticks: tells a process from a later one of the same number."""
    kernel: str
    """Which boot of which kernel, and which namespaces: only within them do a number and a time name a process."""

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.started} {self.kernel}"

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), _kernel())

    @classmethod
    def parse(cls, lease: str) -> Holder | None:
        """None where it names none."""
        host, _, rest = lease.partition(" ")
        pid, *others = rest.split(" ")
        if not pid.isdecimal() or int(pid) < 1 or len(others) != len(cls._fields) - 2:
            return None
        return cls(host, int(pid), *others)

    def is_surely_gone(self, me: Holder) -> bool:
        """It has ended, for certain.

        Containers may share a host's name, and not see each other's processes: a number that is missing here says nothing
        of them.
        """
        if _UNKNOWN in (self.kernel, self.started) or self.kernel != me.kernel:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # somebody else's process: it is there
        started = _started(self.pid)
        return started not in (_UNKNOWN, self.started)


class Slot:
    """Held by renewing a lease.  Kafka fences by itself what this doesn't see: Redis forgets, clocks stop."""

    def __init__(self, settings: WorkerSettings, me: Holder | None = None) -> None:
        """`me`: who is to hold it; none: this process."""
        self.settings = settings
        self.key = f"{{{settings.topic_prefix}p}}:slot:{settings.group}:{settings.slot}"
        self.me = me or Holder.here()
        within = _PATIENCE * settings.redis_timeout
        self._redis = redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=within,
            socket_connect_timeout=within,
            retry=retries(),
            decode_responses=True,
        )
        self._ended = threading.Event()
        self.redis_trouble: str | None = None
        """What was wrong with Redis at the last sign, in words; None: it answered."""

    def take(self) -> None:
        """Take the slot and hold it; waits for another's lease to run out, and for Redis.  Raises WrongSettings."""
        deadline = time.monotonic() + LEASE + 1.0
        while (lease := self._renew_when_there()) is not None:
            holder = Holder.parse(lease)
            if holder is not None and holder.is_surely_gone(self.me):
                self._redis.eval(_GIVE_UP, 1, self.key, lease)  # it was killed
                continue
            if time.monotonic() > deadline:
                who = f"process {holder.pid} on {holder.host}" if holder is not None else f"{lease!r}"
                raise WrongSettings(
                    f"slot {self.settings.slot} of group {self.settings.group} is taken by {who}: "
                    "no two workers may have the same; set FRAUD_SLOT to another number"
                )
            time.sleep(0.2)
        threading.Thread(target=self._hold, daemon=True, name="slot").start()

    def why_fenced(self) -> str:
        """Who has shut this worker out of Kafka, as far as the slot's lease tells."""
        s = self.settings
        slot = f"slot {s.slot} of group {s.group}"
        try:
            found: Any = self._redis.get(self.key)
        except redis.RedisError as error:
            return f"{BOTH_CAUSES} ({slot}: {why(error)})"
        if found in (None, str(self.me)):
            return (
                f"nobody else holds {slot} in Redis, so that these are not two workers with one slot: Kafka stood still, or "
                "this worker did, for longer than FRAUD_SESSION_TIMEOUT or FRAUD_TRANSACTION_TIMEOUT; start it again"
            )
        holder = Holder.parse(found)
        who = f"process {holder.pid} on {holder.host}" if holder is not None else f"{found!r}"
        return f"{who} holds {slot} now: no two workers may have the same, set FRAUD_SLOT to another number for one of them"

    def give_up(self) -> None:
        """Let the next worker have it at once."""
        self._ended.set()
        with contextlib.suppress(redis.RedisError):  # it runs out by itself
            self._redis.eval(_GIVE_UP, 1, self.key, str(self.me))

    def _renew_when_there(self) -> str | None:
        while True:
            try:
                held = self._renew()
            except redis.RedisError as error:
                self.redis_trouble = why(error)
                time.sleep(0.5)
            else:
                self.redis_trouble = None
                return held

    def _renew(self) -> str | None:
        held: str | None = self._redis.eval(_RENEW, 1, self.key, str(self.me), str(round(LEASE * 1000)))
        return held

    def _hold(self) -> None:
        # Often enough for a Redis that falls silent to be named within FRAUD_REDIS_TIMEOUT.
        while not self._ended.wait(min(LEASE / 3, (1 - _PATIENCE) / 2 * self.settings.redis_timeout)):
            try:
                self._renew()
            except redis.RedisError as error:
                self.redis_trouble = why(error)  # the lease runs out: so does everybody's
            else:
                self.redis_trouble = None


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return _UNKNOWN


def _kernel() -> str:
    """Linux only; elsewhere a lease is waited for."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespaces = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "time")]
    except OSError:
        return _UNKNOWN
    return "/".join([boot, *namespaces])
