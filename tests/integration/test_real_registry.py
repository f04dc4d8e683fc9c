"""What the fake registry says, a real one says too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local.children import Children
from deploy.local.registry_server import RegistryServer
from deploy.local.stack import LocalStack
from features.registry import Registry
from loadgen.avro import register
from schemas.errors import BadMessage, Fault, RegistryUnavailable
from schemas.topics import LABELS, TRANSACTIONS
from schemas.transaction import decode_transaction
from tests.avro import in_avro
from tests.fleet.fleet import Fleet
from tests.fleet.messages import a_transaction
from tests.integration.test_avro import put_into_avro

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    folder = tmp_path_factory.mktemp("registry")
    with Children(folder) as children:
        running = RegistryServer(folder / "registry", children)
        running.launch()
        running.wait_until_ready()
        yield running


def test_ids_are_given_found_and_not_found_as_the_fake_one_does(server: RegistryServer) -> None:
    ids = {name: register(server.url, f"{name}s", name) for name in ("transaction", "label")}
    assert register(server.url, "transactions", "transaction") == ids["transaction"], "the same schema, the same id"
    one = a_transaction(attributes={"whole": 1, "part": 0.5, "yes": True, "said": "1"})
    registry = Registry(server.url)

    assert decode_transaction(in_avro(one, ids["transaction"]), registry) == one
    with pytest.raises(BadMessage, match="schema 123456 is not registered") as bad:
        registry.schema(123_456)
    assert bad.value.fault is Fault.UNKNOWN_SCHEMA
    with pytest.raises(RegistryUnavailable, match="answers 404"):
        Registry(server.url.removesuffix("/apis/ccompat/v7")).schema(ids["transaction"])


def test_a_schema_that_refers_to_others_is_refused_by_its_id(server: RegistryServer) -> None:
    money = '{"type":"record","name":"Money","fields":[{"name":"cents","type":"long"}]}'
    payment = '{"type":"record","name":"Payment","fields":[{"name":"paid","type":"Money"}]}'
    to_money = [{"name": "Money", "subject": "money", "version": 1}]
    httpx.post(f"{server.url}/subjects/money/versions", json={"schema": money}).raise_for_status()
    answer = httpx.post(f"{server.url}/subjects/payment/versions", json={"schema": payment, "references": to_money})
    with pytest.raises(BadMessage, match="refers to others"):
        Registry(server.url).schema(answer.raise_for_status().json()["id"])


def test_a_worker_waits_for_it_and_judges(stack: LocalStack, prefix: str, bundle: Path, server: RegistryServer) -> None:
    transaction = register(server.url, f"{prefix}{TRANSACTIONS.name}", "transaction")
    label = register(server.url, f"{prefix}{LABELS.name}", "label")
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.adopt(schema_registry_url=server.url)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            fleet.send(put_into_avro(fleet.life.messages(60), transaction, label))
            worker = fleet.launch()
            worker.wait_until(lambda: server.url in str(worker.readiness().get("waits_for")))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        fleet.wait_for_verdicts(60)
        fleet.check(verdicts=60, dead_lettered={})
