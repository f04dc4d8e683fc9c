"""docker-compose.yml is one that Docker takes, and says the same as the local stack does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.jars import KAFKA_VERSION, PROJECT

COMPOSE = Path(sys.executable).with_name("docker-compose")


@pytest.fixture(scope="module")
def configuration() -> Any:
    """As docker-compose understands it; no daemon is asked."""
    done = subprocess.run(
        [COMPOSE, "--profile", "*", "-f", PROJECT / "docker-compose.yml", "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "DOCKER_"))},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_part_is_there(configuration: Any) -> None:
    assert set(configuration["services"]) == {
        "kafka",
        "redis",
        "topics",
        "worker",
        "explainer",
        "loadgen",
        "prometheus",
    }


def test_it_is_the_kafka_that_the_tests_run_on(configuration: Any) -> None:
    assert configuration["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_what_is_built_is_a_target_of_the_dockerfile(configuration: Any) -> None:
    dockerfile = (PROJECT / "deploy" / "Dockerfile").read_text()

    builds = [service["build"] for service in configuration["services"].values() if "build" in service]

    assert builds
    for build in builds:
        assert build["dockerfile"] == "deploy/Dockerfile"
        assert f" AS {build['target']}\n" in dockerfile


def test_nothing_is_published_beyond_this_machine(configuration: Any) -> None:
    published = [port for service in configuration["services"].values() for port in service.get("ports", [])]

    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_workers_may_write_where_they_put_the_bundles_that_they_fetch(configuration: Any) -> None:
    for name in ("worker", "explainer"):
        service = configuration["services"][name]
        [mount] = service["volumes"]
        assert Path(service["environment"]["FRAUD_BUNDLE"]).parent == Path(mount["target"])
        assert not mount.get("read_only", False)
        assert "FRAUD_MLFLOW_URI" in service["environment"]


def test_the_key_comes_from_where_compose_runs_and_has_no_default(configuration: Any) -> None:
    for name in ("worker", "loadgen"):
        assert configuration["services"][name]["environment"]["FRAUD_ID_KEY"] == os.environ.get("FRAUD_ID_KEY")


def test_the_workers_image_can_fetch() -> None:
    dockerfile = (PROJECT / "deploy" / "Dockerfile").read_text()
    image = dockerfile.partition("FROM program AS worker\n")[2].partition("FROM")[0]

    assert "COPY training training\n" in image


def test_what_is_mounted_from_here_is_here_or_is_made(configuration: Any) -> None:
    mounts = [mount for service in configuration["services"].values() for mount in service.get("volumes", [])]
    sources = [Path(mount["source"]) for mount in mounts if mount["type"] == "bind"]

    assert sources
    for source in sources:
        assert source.exists() or source.is_relative_to(PROJECT / ".local")
