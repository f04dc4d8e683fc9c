"""A port behind which a server is, or is not yet."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from deploy.local.ports import LOOPBACK, free_ports


class Forwarder:
    """From `port` to a server's, once `open` is called: until then nobody listens there."""

    def __init__(self, server: str) -> None:
        """`server` is host:port."""
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        (self.port,) = free_ports(1)
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*([self._listener] if self._listener else []), *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def open(self) -> None:
        """From now on."""
        self._listener = socket.create_server((LOOPBACK, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for here, there in ((client, server), (server, client)):
                    threading.Thread(target=_copy, args=(here, there), daemon=True).start()


def _copy(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := here.recv(65_536):
            there.sendall(some)
    with contextlib.suppress(OSError):
        there.shutdown(socket.SHUT_WR)
