"""The web port serves three pages and no more, and none of them has a secret."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.local.ports import free_ports
from schemas import masking
from streaming.pages import serve
from streaming.settings import WorkerSettings
from streaming.worker import Worker
from tests.builders import ID_KEY

PAGES = {"/metrics", "/healthz", "/readyz"}


def test_a_worker_serves_three_pages_and_none_of_fausts() -> None:
    web: Any = Worker(WorkerSettings(id_key=ID_KEY)).app.web

    web.init_server()

    there = {resource.canonical for resource in web.web_app.router.resources()}
    assert there == PAGES


def test_what_an_explainer_serves_are_the_same_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_secrets", {})
    masking.keep("hunter2-hunter2")
    (port,) = free_ports(1)
    why = "Redis at redis://me:hunter2-hunter2@host:6379/0: hunter2-hunter2"
    serve("127.0.0.1", port, registry=CollectorRegistry(), waits_for=lambda: [why], trouble=lambda: why)

    answers = {page: get(port, page) for page in (*PAGES, "/", "/router", "/table", "/graph", "/stats", "/metrics/")}

    assert {page for page, (status, _) in answers.items() if status != 404} == PAGES
    assert "redis://***@host:6379/0: ***" in answers["/readyz"][1]
    assert not [page for page, (_, body) in answers.items() if "hunter2" in body]


def get(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
