"""A command that only says what it takes, or looks something up, does not wait for what learns, judges or reads tables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("numba", "polars", "mlflow", "lightgbm", "sklearn", "faust", "confluent_kafka", "redis", "onnxruntime")

HELP_OF_ALL = """
import importlib, json, sys
import typer
from typer.testing import CliRunner

def ways(command, path):
    yield path
    for name, under in getattr(command, "commands", {}).items():
        yield from ways(under, (*path, name))

app = importlib.import_module(sys.argv[1]).app
asked = [path for path in ways(typer.main.get_command(app), ())]
wrong = [path for path in asked if CliRunner().invoke(app, [*path, "--help"]).exit_code != 0]
print(json.dumps({"asked": len(asked), "wrong": wrong, "modules": sorted(sys.modules)}))
"""


@pytest.mark.parametrize(
    ("program", "commands"),
    [
        ("training.__main__", 14),
        ("features.__main__", 4),
        ("streaming.__main__", 4),
        ("streaming.dead_letters", 4),
        ("loadgen.__main__", 7),
        ("loadgen.check_command", 1),
        ("loadgen.demo_command", 1),
        ("loadgen.mapping_command", 1),
    ],
)
def test_help_needs_nothing_that_a_command_does_its_work_with(program: str, commands: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL, program], capture_output=True, text=True, timeout=250, check=True
    )
    said = json.loads(done.stdout)

    assert said["asked"] >= commands
    assert said["wrong"] == []
    assert sorted(set(HEAVY) & set(said["modules"])) == []


def test_settings_are_looked_at_with_nothing_that_a_worker_works_with() -> None:
    look = "import sys; from streaming.__main__ import app; app(['settings', '--json'], standalone_mode=False); " + (
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=250, check=True)

    assert any(line["name"] == "FRAUD_SLOT" for line in json.loads(done.stdout))
    assert sorted(set(HEAVY) & set(done.stderr.split())) == []


def test_what_is_deployed_is_looked_up_with_a_client_of_kafka_and_no_more() -> None:
    look = "import sys, training.deploying, features.deployments; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=250, check=True)

    assert sorted(set(HEAVY) & set(done.stdout.split())) == ["confluent_kafka"]
