"""A worker's slot, held in Redis while it runs: two workers with one slot would fence each other for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import redis

from features.redis_store import retries
from schemas.errors import WrongSettings
from streaming.settings import WorkerSettings

LEASE = 3.0
"""Seconds that a slot stays taken after its worker's last sign."""
_RENEW = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_GIVE_UP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Slot:
    """Held by renewing a lease.  Kafka fences by itself what this doesn't see: Redis forgets, clocks stop."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.key = f"{{{settings.topic_prefix}p}}:slot:{settings.group}:{settings.slot}"
        self.me = f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"
        self._redis = redis.Redis.from_url(
            settings.redis_url, socket_timeout=settings.redis_timeout, retry=retries(), decode_responses=True
        )
        self._ended = threading.Event()

    def take(self) -> None:
        """Take the slot and hold it; waits for another's lease to run out, and for Redis.  Raises WrongSettings."""
        deadline = time.monotonic() + LEASE + 1.0
        while (holder := self._renew_when_there()) is not None:
            host, pid, started = holder.rsplit(" ", 2)
            if host == socket.gethostname() and _started(int(pid)) != started:
                self._redis.delete(self.key)  # that process is gone, it was killed
                continue
            if time.monotonic() > deadline:
                raise WrongSettings(
                    f"slot {self.settings.slot} of group {self.settings.group} is taken by process {pid} on {host}: "
                    "no two workers may have the same; set FRAUD_SLOT to another number"
                )
            time.sleep(0.2)
        threading.Thread(target=self._hold, daemon=True, name="slot").start()

    def give_up(self) -> None:
        """Let the next worker have it at once."""
        self._ended.set()
        with contextlib.suppress(redis.RedisError):  # it runs out by itself
            self._redis.eval(_GIVE_UP, 1, self.key, self.me)

    def _renew_when_there(self) -> str | None:
        while True:
            try:
                return self._renew()
            except redis.RedisError:
                time.sleep(0.5)

    def _renew(self) -> str | None:
        held: str | None = self._redis.eval(_RENEW, 1, self.key, self.me, str(round(LEASE * 1000)))
        return held

    def _hold(self) -> None:
        while not self._ended.wait(LEASE / 3):
            try:
                self._renew()
            except redis.RedisError:
                continue  # Redis is away: so is everybody's


def _started(pid: int) -> str:
    """When this process was started, in the kernel's ticks; tells a process from a later one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"
