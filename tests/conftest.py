"""One real Kafka and one real Redis for the whole run, one small bundle; names of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Shared by all tests: whoever kills one of its servers starts it again, or takes a LocalStack of his own."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """What a test puts before its topics, groups and keys, so that it meets no other test's."""
    return a_prefix()


def a_prefix() -> str:
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 20 trees that flags large amounts."""
    from tests.fleet.models import a_bundle  # noqa: PLC0415 - LightGBM takes a second, which other tests can spare

    return a_bundle(tmp_path_factory.mktemp("bundles"))
