"""Free ports on the loopback address."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> tuple[int, ...]:
    """Ports that nobody listens on now; someone else may be faster, so that starting on them can fail.

    None of them is one that the kernel gives to outgoing connections: a client that retries while its server is
    restarted would now and then be given the very port it is calling, connect to itself, and keep the server out.
    """
    below = _first_outgoing_port()
    ports: set[int] = set()
    while len(ports) < count:
        port = random.randrange(max(1025, below - 12_000), below)  # noqa: S311 - no secret
        if port not in ports and is_free(port):
            ports.add(port)
    return tuple(ports)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768  # Linux's default; elsewhere they begin higher
