"""A schema registry on loopback that answers as Confluent's does, and has bad days when it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from deploy.local.ports import LOOPBACK, free_ports
from schemas.avro_wire import our_schema

Answer = tuple[int, bytes]


class FakeRegistry:
    """`with FakeRegistry() as registry:` it listens at `registry.url`."""

    def __init__(self) -> None:
        self._port = free_ports(1)[0]
        self._schemas: dict[int, dict[str, Any]] = {}
        self._instead: Answer | None = None
        self._takes = 0.0
        self._server: ThreadingHTTPServer | None = None
        self.asked: Counter[str] = Counter()
        """How often each path was."""
        self._news = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def listen(self) -> None:
        """From now on it answers; with what it had."""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*registry._get(self.path))

            def do_POST(self) -> None:
                registry._note(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(200, json.dumps({"id": registry._id_of(body)}).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nowhere."""

        self._server = ThreadingHTTPServer((LOOPBACK, self._port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def go_away(self) -> None:
        """Nobody listens there any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextmanager
    def answering(self, status: int, body: bytes) -> Iterator[None]:
        """Whatever it is asked."""
        self._instead = status, body
        yield
        self._instead = None

    @contextmanager
    def dawdling(self, seconds: float) -> Iterator[None]:
        """Over each answer."""
        self._takes = seconds
        yield
        self._takes = 0.0

    def has(self, schema_id: int, schema: Any = None, **more: Any) -> int:
        """From now on, under this id; our own schema of transactions where none is given."""
        text = json.dumps(our_schema("transaction") if schema is None else schema)
        self._schemas[schema_id] = {"schema": text, **more}
        return schema_id

    def forget(self, schema_id: int) -> None:
        """As if it had never been there."""
        del self._schemas[schema_id]

    def wait_until_asked(self, times: int, seconds: float = 30.0) -> None:
        """So many times more."""
        with self._news:
            until = self.asked.total() + times
            assert self._news.wait_for(lambda: self.asked.total() >= until, seconds)

    def _note(self, path: str) -> None:
        with self._news:
            self.asked[path] += 1
            self._news.notify_all()

    def _get(self, path: str) -> Answer:
        self._note(path)
        time.sleep(self._takes)
        if self._instead is not None:
            return self._instead
        found = self._schemas.get(int(path.rpartition("/")[2]))
        if found is None:
            return 404, b'{"error_code":40403,"message":"Schema not found"}'
        return 200, json.dumps(found).encode()

    def _id_of(self, body: dict[str, Any]) -> int:
        for schema_id, known in self._schemas.items():
            if known["schema"] == body["schema"]:
                return schema_id
        self._schemas[new := max(self._schemas, default=0) + 1] = body
        return new
