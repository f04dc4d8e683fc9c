"""/metrics, /healthz and /readyz of a process that needs no Faust."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest

from schemas import masking
from schemas.errors import WrongSettings


def serve(
    host: str,
    port: int,
    *,
    registry: CollectorRegistry,
    waits_for: Callable[[], list[str]],
    trouble: Callable[[], str | None],
) -> None:
    """Answer in a thread from here on, as a worker does.  Raises WrongSettings where the port is taken."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry), "text/plain")
            elif self.path == "/healthz":
                why = None if (found := trouble()) is None else masking.text(found)
                self._json(why is None, {"healthy": why is None, "trouble": why})
            elif self.path == "/readyz":
                waits = [masking.text(wait) for wait in waits_for()]
                self._json(not waits, {"ready": not waits, "waits_for": waits})
            else:
                self._answer(404, b"", "text/plain")

        def _json(self, well: bool, what: object) -> None:
            self._answer(200 if well else 503, json.dumps(what).encode(), "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probers would fill the log."""

    try:
        server = ThreadingHTTPServer((host, port), Pages)
    except OSError as error:
        raise WrongSettings(
            f"nothing can listen on {host}:{port} ({error.strerror}): set FRAUD_EXPLAINER_PORT, or FRAUD_WEB_HOST, to one "
            "that is free"
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True, name="pages").start()
