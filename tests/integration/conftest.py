"""One real Kafka and one real Redis for the whole run; names of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Shared by all tests: whoever kills one of its servers starts it again, or takes a LocalStack of his own."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """What a test puts before its topics, groups and keys, so that it meets no other test's."""
    return f"t{uuid.uuid4().hex[:10]}-"
