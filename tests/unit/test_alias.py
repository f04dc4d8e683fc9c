"""The alias `champion` of an MLflow server is asked for as who the settings say: by the address, or by MLflow's variables."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from schemas.bundle import BUNDLE_TAG
from schemas.deployment import Model
from streaming.following import Following
from streaming.metrics import Metrics
from streaming.settings import WorkerSettings
from tests.builders import RULES

PASSWORD = "p@ss:w/ord?2#%&"
NAMED = Model(bundle="0123456789abcdef", version="3")


class FakeMLflow:
    """Names a bundle to whoever comes as is wanted, by whatever path its proxy has."""

    def __init__(self, wanted: str | None, elsewhere: str | None = None) -> None:
        self.came: list[str | None] = []
        self.asked: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.came.append(self.headers["Authorization"])
                fake.asked.append(self.path)
                if elsewhere is not None:
                    self.send_response(302)
                    self.send_header("Location", elsewhere)
                    self.end_headers()
                    return
                known = self.headers["Authorization"] == wanted
                tags = [{"key": BUNDLE_TAG, "value": NAMED.bundle}]
                body = json.dumps({"model_version": {"version": NAMED.version, "tags": tags}} if known else {}).encode()
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def servers() -> Iterator[list[FakeMLflow]]:
    running: list[FakeMLflow] = []
    yield running
    for server in running:
        server.close()


def following(uri: str) -> Following:
    settings = WorkerSettings(mlflow_uri=uri, mlflow_model="bank model")
    return Following(settings, RULES, Metrics(), lambda _: None)


CASES = {
    "nobody in particular": ("", {}, None),
    "the address": (f"me:{quote(PASSWORD, safe='')}@", {}, basic("me", PASSWORD)),
    "the address without a password": ("token@", {}, basic("token", "")),
    "MLflow's variables": (
        "",
        {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": PASSWORD},
        basic("me", PASSWORD),
    ),
    "a token": ("", {"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
    "the address before the variables": ("me:mine@", {"MLFLOW_TRACKING_TOKEN": "t0ken"}, basic("me", "mine")),
}


@pytest.mark.parametrize(("who", "environment", "wanted"), CASES.values(), ids=CASES)
def test_the_server_is_told_who_asks(
    who: str,
    environment: dict[str, str],
    wanted: str | None,
    servers: list[FakeMLflow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = FakeMLflow(wanted)
    servers.append(server)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert following(f"http://{who}{server.place}/of/bank/")._named_by_alias() == NAMED

    (asked,) = server.asked
    assert urlsplit(asked).path == "/of/bank/api/2.0/mlflow/registered-models/alias"
    assert parse_qs(urlsplit(asked).query) == {"name": ["bank model"], "alias": ["champion"]}


def test_another_server_that_it_points_to_is_not_told(servers: list[FakeMLflow]) -> None:
    servers.append(FakeMLflow(None))
    servers.append(FakeMLflow(None, elsewhere=f"http://{servers[0].place}/"))

    assert following(f"http://me:mine@{servers[1].place}")._named_by_alias() == NAMED

    assert servers[1].came == [basic("me", "mine")]
    assert servers[0].came == [None]
