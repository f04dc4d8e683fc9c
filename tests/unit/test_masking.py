"""No secret leaves: not in what settings print, not in what errors, logs, traces and pages say."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.exceptions import ConnectionError as NotThere
from typer.testing import CliRunner

from features import redis_words
from features.registry import Registry
from features.settings import Settings, explain, load, shown
from schemas import masking
from schemas.errors import RegistryUnavailable, WrongSettings
from streaming.__main__ import app
from streaming.logs import write_log
from streaming.settings import WorkerSettings
from tests.builders import ID_KEY
from training.errors import MLflowAway
from training.tracking import Tracking, connected, in_a_line

SECRET = "p@ss:w/ord?2#%&"
QUOTED = quote(SECRET, safe="")
PLAIN = "hunter2-hunter2"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----\n"
ENVIRONMENT = {
    "FRAUD_KAFKA_URL": f"me:{PLAIN}@broker:9092,other:9092",
    "FRAUD_REDIS_URL": f"redis://me:{QUOTED}@127.0.0.1:1/0?password={PLAIN}",
    "FRAUD_SCHEMA_REGISTRY_URL": f"http://me:{QUOTED}@127.0.0.1:1/of/{PLAIN}",
    "FRAUD_MLFLOW_URI": f"http://{PLAIN}@127.0.0.1:1",
    "FRAUD_ID_KEY": ID_KEY,
    "FRAUD_KAFKA__SASL_PASSWORD": PLAIN,
    "FRAUD_KAFKA__SSL_KEY_PEM": PEM,
    "FRAUD_KAFKA__SSL_KEY_PASSWORD": PLAIN,
    "FRAUD_KAFKA__SSL_KEYSTORE_PASSWORD": PLAIN,
    "FRAUD_KAFKA__SSL_CERTIFICATE_PEM": PEM,
    "FRAUD_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": PLAIN,
    "FRAUD_KAFKA__SASL_OAUTHBEARER_CONFIG": f"clientSecret={PLAIN}",
    "FRAUD_KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": f"https://me:{PLAIN}@idp/token",
    "FRAUD_KAFKA__SASL_JAAS_CONFIG": f'org.apache.Plain required username="me" password="{PLAIN}";',
    "FRAUD_KAFKA__SOMETHING_THAT_COMES_NEXT_YEAR": PLAIN,
    "FRAUD_KAFKA__SASL_MECHANISM": f"PLAIN;{PLAIN}",
    "FRAUD_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
}
HIDDEN = (SECRET, QUOTED, PLAIN, ID_KEY, "MIIEvQIBADANBgkqhkiG9w0")


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps, the next doesn't know."""
    monkeypatch.setattr(masking, "_secrets", {})


def shows_nothing(said: str) -> bool:
    return not [secret for secret in HIDDEN if secret in said]


def test_settings_are_printed_without_their_secrets() -> None:
    for arguments in (["settings"], ["settings", "--json"]):
        done = CliRunner().invoke(app, arguments, env=ENVIRONMENT)
        assert (done.exit_code, shows_nothing(done.output)) == (0, True), done.output

    lines = {line.name: line.value for line in explain(WorkerSettings, ENVIRONMENT)}
    assert lines["FRAUD_KAFKA_URL"] == "***,other:9092"
    assert lines["FRAUD_REDIS_URL"] == "redis://***@127.0.0.1:1/0?***"
    assert lines["FRAUD_MLFLOW_URI"] == "http://***@127.0.0.1:1"
    assert lines["FRAUD_ID_KEY"] == "*** (fingerprint 1d6fd895)"
    assert "security.protocol=SASL_SSL" in lines["FRAUD_KAFKA"]


def test_a_setting_that_nobody_has_said_may_be_shown_is_not() -> None:
    assert shown("license_of_next_year", PLAIN) == masking.MASK
    plain = {"topic_prefix", "group", "currency", "bundle", "web_host", "mlflow_model", "log_level", "id_key"}
    for name in sorted(set(WorkerSettings.__struct_fields__) - plain):
        assert shows_nothing(shown(name, f"redis://me:{PLAIN}@host/0")), name


def test_settings_as_a_trace_shows_them_have_no_secrets() -> None:
    assert shows_nothing(repr(load(WorkerSettings, ENVIRONMENT)))


WRONG = {
    "a port that is none": {"FRAUD_REDIS_URL": f"redis://me:{PLAIN}@host:{PLAIN}/0"},
    "an address that is none": {"FRAUD_SCHEMA_REGISTRY_URL": f"ftp://me:{PLAIN}@host"},
    "a key that is none": {"FRAUD_ID_KEY": PLAIN},
    "a number that is none": {"FRAUD_PARTITIONS": PLAIN},
    "one that can't be changed": {"FRAUD_KAFKA__GROUP_ID": PLAIN},
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_setting_is_refused_without_quoting_its_secrets(given: dict[str, str]) -> None:
    with pytest.raises(WrongSettings) as refused:
        load(WorkerSettings, given)

    assert shows_nothing(str(refused.value))


def test_what_is_away_is_named_without_its_secrets() -> None:
    load(WorkerSettings, ENVIRONMENT)
    registry = Registry(ENVIRONMENT["FRAUD_SCHEMA_REGISTRY_URL"])
    with pytest.raises(RegistryUnavailable) as away:
        registry.learn([7])
    assert "http://***@127.0.0.1:1/***" in str(away.value)
    assert shows_nothing(str(away.value))

    quoting = NotThere(f"Error connecting to {ENVIRONMENT['FRAUD_REDIS_URL']}: {SECRET} or {QUOTED} is wrong")
    assert shows_nothing(redis_words.why(quoting))


def test_mlflow_is_named_without_its_secrets() -> None:
    for uri in (
        f"postgresql://me:{QUOTED}@127.0.0.1:1/runs?sslpassword={PLAIN}",
        f"http://me:{QUOTED}@127.0.0.1:1/{PLAIN}",
    ):
        tracking = Tracking(uri=uri, artifacts=f"s3://me:{PLAIN}@bucket/folder")
        assert shows_nothing(tracking.shown)
        assert shows_nothing(in_a_line(RuntimeError(f"API request to {uri}/api failed: {SECRET}")))
    with pytest.raises(MLflowAway) as away:
        connected(Tracking(uri=f"postgresql://me:{QUOTED}@127.0.0.1:1/runs", artifacts="folder"))
    assert shows_nothing(str(away.value))
    with pytest.raises(WrongSettings) as refused:
        Tracking(uri=f"gopher://me:{PLAIN}@host")
    assert shows_nothing(str(refused.value))


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """What is logged while `write_log` holds, as people and as programs read it."""
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    before = list(root.handlers), root.level

    def of(*, as_json: bool) -> str:
        write_log("info", as_json=as_json)
        try:
            raise RuntimeError(f"connecting to {ENVIRONMENT['FRAUD_REDIS_URL']} as {SECRET}")
        except RuntimeError:
            logging.getLogger("somebody's").exception("%s, and %s", PLAIN, ENVIRONMENT["FRAUD_MLFLOW_URI"])
        return capsys.readouterr().err

    yield of
    root.handlers[:], root.level = before
    sys.excepthook, threading.excepthook = hooks


@pytest.mark.parametrize("as_json", [False, True])
def test_no_log_line_and_no_trace_in_it_has_a_secret(logged: Any, as_json: bool) -> None:
    load(WorkerSettings, ENVIRONMENT)

    said = logged(as_json=as_json)

    assert "RuntimeError: connecting to redis://***@127.0.0.1:1/0" in said
    assert shows_nothing(said)
    assert not as_json or json.loads(said)["level"] == "error"


def test_a_trace_that_nobody_caught_has_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    load(WorkerSettings, ENVIRONMENT)
    masking.guard_traces()

    def fail() -> None:
        raise RuntimeError(f"{SECRET} and {PLAIN}")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)

    said = capsys.readouterr().err
    assert said.count("RuntimeError: *** and ***") == 2
    assert shows_nothing(said)


def test_what_hides_nothing_is_shown_as_it_is() -> None:
    plain = "Kafka at 127.0.0.1:9092, http://127.0.0.1:6066/metrics, sqlite:///.local/mlflow/mlflow.db."
    assert masking.text(plain) == plain
    assert Settings(kafka_url="one:9092,two:9092").kafka_shown == "one:9092,two:9092"
    assert masking.address("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"
    assert masking.address("unix:///run/redis.sock") == "unix:///run/redis.sock"
    assert masking.address("s3://bucket/folder/file") == "s3://bucket/folder/file"
    assert masking.address("") == ""


def test_a_file_of_settings_hides_them_too(tmp_path: Path) -> None:
    file = tmp_path / "fraud.toml"
    file.write_text(f'redis_url = "redis://:{QUOTED}@host:6379/0"\n[kafka]\n"sasl.password" = "{PLAIN}"\n')

    said = "".join(line.value for line in explain(Settings, {"FRAUD_SETTINGS": str(file)}))

    assert shows_nothing(said)
    assert shows_nothing(masking.text(f"{SECRET} {PLAIN}"))
