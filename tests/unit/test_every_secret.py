"""A secret in every setting there is, and none in what commands print, log, write and serve."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from deploy.local.ports import free_ports
from features.settings import PREFIX, Settings, explain, load
from schemas import masking
from schemas.errors import WrongSettings
from streaming.settings import WorkerSettings
from tests.unit.pasts import a_past
from training.archive_commands import write_log
from training.tracking import Tracking

SECRET = "hunter2-hunter2"
KEY = "5ec2e7" + "0123456789abcdef" * 3 + "0123456789"
HIDDEN = (SECRET, KEY)
NAMES = {"topic_prefix", "group", "currency", "bundle", "web_host", "mlflow_model", "log_level", "experiment", "model"}
"""Settings that name or place something, and are shown by all that speaks of it.  A new one with text in it must be told apart:
here, or by being masked."""
SCHEMES = {"redis_url": "redis", "schema_registry_url": "http", "mlflow_uri": "http"}
PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps, the next doesn't know."""
    monkeypatch.setattr(masking, "_secrets", {})


def kinds() -> Iterator[type[Settings]]:
    """Settings, and whatever has more of them."""
    found = [Settings]
    for kind in found:
        found += kind.__subclasses__()
    return iter(found)


def fields() -> list[tuple[type[Settings], str]]:
    return [(kind, name) for kind in kinds() for name in kind.__struct_fields__ if name not in NAMES]


def variables(kind: type[Settings], name: str) -> Iterator[tuple[str, str]]:
    """Each way to put a secret into it."""
    hint = get_type_hints(kind)[name]
    variable = PREFIX + name.upper()
    if name != "kafka_url":  # there a word alone is a broker's name
        yield variable, SECRET
    if name in SCHEMES:
        for address in (f"me:{SECRET}@h:1/0", f"{SECRET}@h:1/0", f"h:1/0?password={SECRET}", f"h:{SECRET}/0"):
            yield variable, f"{SCHEMES[name]}://{address}"
    if name == "kafka_url":
        yield variable, f"me:{SECRET}@h:1,other:9092"
    if "dict" in str(hint):
        for key in ("SASL_PASSWORD", "SSL_KEY_PEM", "OF_NEXT_YEAR", "LINGER_MS"):
            yield f"{variable}__{key}", f"{SECRET};" if key == "LINGER_MS" else SECRET


@pytest.mark.parametrize(("kind", "name"), fields(), ids=lambda part: getattr(part, "__name__", part))
def test_a_secret_in_any_setting_is_neither_shown_nor_quoted(kind: type[Settings], name: str) -> None:
    for variable, value in variables(kind, name):
        try:
            said = f"{explain(kind, {variable: value})} {load(kind, {variable: value})!r}"
        except WrongSettings as refused:
            said = f"{refused}"
        assert SECRET not in said, f"{variable}={value}"


def test_every_setting_is_either_masked_or_says_what_it_names() -> None:
    """Also those of MLflow, which are no `Settings`."""
    texts = {name for kind in kinds() for name, hint in get_type_hints(kind).items() if hint is str}
    masked = {name for kind, name in fields()}
    assert texts - masked <= NAMES
    for name in set(Tracking.__struct_fields__) - NAMES:
        try:
            said = msgspec.convert({name: f"http://me:{SECRET}@h:1/{SECRET}"}, Tracking).shown
        except (WrongSettings, msgspec.ValidationError) as refused:
            said = str(refused)
        assert SECRET not in said, name


@pytest.fixture
def environment(closed_port: int, tmp_path: Path) -> dict[str, str]:
    """A secret wherever one can be, and nobody at any address."""
    nobody = f"127.0.0.1:{closed_port}"
    own = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "MLFLOW_", "AWS_"))}
    return own | {
        "PYTHONPATH": str(PROJECT),
        "FRAUD_KAFKA_URL": nobody,
        "FRAUD_REDIS_URL": f"redis://me:{SECRET}@{nobody}/0?password={SECRET}",
        "FRAUD_SCHEMA_REGISTRY_URL": f"http://me:{SECRET}@{nobody}/{SECRET}",
        "FRAUD_MLFLOW_URI": f"http://me:{SECRET}@{nobody}",
        "FRAUD_MLFLOW_ARTIFACTS": f"s3://me:{SECRET}@bucket/folder",
        "FRAUD_ARCHIVE": str(tmp_path / "archive"),
        "FRAUD_ID_KEY": KEY,
        "FRAUD_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "FRAUD_KAFKA__SASL_MECHANISM": "PLAIN",
        "FRAUD_KAFKA__SASL_USERNAME": "me",
        "FRAUD_KAFKA__SASL_PASSWORD": SECRET,
        "FRAUD_KAFKA__SSL_KEY_PASSWORD": SECRET,
        "FRAUD_LOG_LEVEL": "debug",
        "MLFLOW_TRACKING_PASSWORD": SECRET,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip


ANY_BUNDLE = "0123456789abcdef"
COMMANDS = (
    "streaming settings",
    "streaming settings --json",
    "streaming.dead_letters list",
    "streaming.dead_letters resend 0:0",
    "features load no-such.parquet",
    "features check",
    "features rebuild",
    "features skip-gap 0",
    "features rekey",
    "features show acct-1",
    "training models",
    f"training promote {ANY_BUNDLE}",
    f"training challenge {ANY_BUNDLE}",
    "training rollback",
    "training rescore tx-1",
    "training archive --until-end",
    "training run past --trees 5 --threads 1 --out bundles",
    "loadgen check",
    "loadgen replay no-such.parquet",
)


def test_no_command_says_a_secret_where_nobody_answers(environment: dict[str, str], tmp_path: Path) -> None:
    def said(command: str) -> tuple[str, int, str]:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        return command, done.returncode, done.stdout + done.stderr

    past = tmp_path / "past"
    past.mkdir()
    for table, name in zip(a_past(days=40, per_day=60), ("transactions", "labels"), strict=True):
        table.write_parquet(past / f"{name}.parquet")

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(said, COMMANDS))

    learns = next(command for command in COMMANDS if command.startswith("training run"))
    assert [command for command, status, _ in answers if status == 0] == [*COMMANDS[:2], learns], answers
    assert [(command, text) for command, _, text in answers if not text.strip()] == []
    assert [(command, text) for command, _, text in answers if any(one in text for one in HIDDEN)] == []
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"bundle.json", "evaluation.html", "run.json"} <= {file.name for file in written}
    assert [file for file in written if any(one.encode() in file.read_bytes() for one in HIDDEN)] == []


def test_a_worker_that_nobody_answers_logs_and_serves_no_secret(environment: dict[str, str], tmp_path: Path) -> None:
    (port,) = free_ports(1)
    worker = subprocess.Popen(
        [sys.executable, "-m", "streaming", "worker"],
        cwd=tmp_path, env=environment | {"FRAUD_WEB_PORT": str(port)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        page(port, "/readyz", worker, says="Redis does not answer")
        pages = [page(port, name, worker) for name in ("/readyz", "/healthz", "/metrics")]
    finally:
        worker.send_signal(signal.SIGTERM)
        logged = worker.communicate(timeout=120)[0].decode()

    assert logged.strip()
    assert [one for one in (*pages, logged) if any(secret in one for secret in HIDDEN)] == []


def page(port: int, name: str, worker: subprocess.Popen[bytes], *, says: str = "") -> str:
    """Once it answers and `says` this, whatever the status."""
    while worker.poll() is None:
        with suppress(ConnectionError, TimeoutError, urllib.error.URLError):
            shown = answered(f"http://127.0.0.1:{port}{name}")
            if says in shown:
                return shown
        time.sleep(0.1)
    raise AssertionError("it has ended")


def answered(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.read().decode()


def test_what_the_archiver_logs_has_no_secret() -> None:
    load(WorkerSettings, {"FRAUD_REDIS_URL": f"redis://me:{SECRET}@h/0"})
    root = logging.getLogger()
    before = list(root.handlers), root.level
    written = io.StringIO()
    try:
        write_log(logging.StreamHandler(written))
        try:
            raise OSError(f"{SECRET} was refused")
        except OSError:
            logging.getLogger("training").exception("s3://me:%s@bucket", SECRET)
    finally:
        root.handlers[:], root.level = before
    assert "s3://***@bucket" in written.getvalue()
    assert "*** was refused" in written.getvalue()
    assert SECRET not in written.getvalue()


def test_a_line_that_no_handler_takes_has_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a command without a log of its own has them."""
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    monkeypatch.setenv("SOMEBODYS_SECRET_KEY", SECRET)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    masking.guard_traces()
    last: Any = logging.lastResort
    last.handle(logging.makeLogRecord({"msg": f"false: {SECRET}", "levelno": logging.ERROR}))
    assert capsys.readouterr().err == "false: ***\n"
