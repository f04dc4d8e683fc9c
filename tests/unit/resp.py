"""A server that speaks as much of Redis' protocol as it takes to give one answer to everything, or none."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Self

OK, NIL = b"+OK\r\n", b"$-1\r\n"


class Server(socketserver.ThreadingTCPServer):
    """Listens on a port of its own; `answer` may be changed at any time, None: it accepts, and never answers."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes | None = OK) -> None:
        super().__init__(("127.0.0.1", 0), _Commands)
        self.answer = answer
        self.connections = 0
        self.asked: list[bytes] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address, as a setting has it."""
        return f"redis://127.0.0.1:{self.server_address[1]}/0?protocol=2"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()


class _Commands(socketserver.StreamRequestHandler):
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            is_greeting = words[0].upper() in (b"CLIENT", b"HELLO", b"SELECT")
            if not is_greeting:
                self.server.asked.append(words[0].upper())
            if self.server.answer is None:
                continue
            self.wfile.write(OK if is_greeting else self.server.answer)
