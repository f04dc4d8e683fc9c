"""What may be shown of a setting, of an address, and of what others say of them.  All else is ***.

An address shows its scheme, host and port, the number of a Redis database, and a file of this machine; a setting of
librdkafka's only if it is listed here.  Texts by others (a client's error, a trace) may quote anything: addresses in them are
cut down likewise, and whatever is known to be a secret (`keep`) is replaced wherever it stands.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import parse_qsl, unquote

MASK = "***"

_KAFKA_SHOWN = frozenset(
    [
        "acks",
        "api.version.request",
        "batch.num.messages",
        "batch.size",
        "broker.address.family",
        "broker.address.ttl",
        "broker.version.fallback",
        "check.crcs",
        "client.dns.lookup",
        "client.id",
        "client.rack",
        "compression.codec",
        "compression.level",
        "compression.type",
        "connections.max.idle.ms",
        "debug",
        "delivery.timeout.ms",
        "enable.metrics.push",
        "enable.ssl.certificate.verification",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "heartbeat.interval.ms",
        "linger.ms",
        "log.connection.close",
        "log_level",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "message.copy.max.bytes",
        "message.max.bytes",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.max.age.ms",
        "metadata.recovery.strategy",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "receive.message.max.bytes",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "request.required.acks",
        "request.timeout.ms",
        "retries",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.kerberos.service.name",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.method",
        "sasl.username",
        "security.protocol",
        "session.timeout.ms",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "socket.max.fails",
        "socket.nagle.disable",
        "socket.receive.buffer.bytes",
        "socket.send.buffer.bytes",
        "socket.timeout.ms",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.curves.list",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.providers",
        "ssl.sigalgs.list",
        "statistics.interval.ms",
        "sticky.partitioning.linger.ms",
        "topic.metadata.propagation.max.ms",
        "topic.metadata.refresh.interval.ms",
        "transaction.timeout.ms",
    ]
)
"""Settings whose values are no secrets."""
_SIMPLE_VALUE = re.compile(r"[\w.,:/+ -]{0,200}")
"""What such a value looks like: a key that was put into the wrong setting does not."""
_OPTIONS_SHOWN = frozenset(
    [
        "db",
        "decode_responses",
        "health_check_interval",
        "host",
        "max_connections",
        "port",
        "protocol",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "sslmode",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_check_hostname",
        "timeout",
    ]
)
"""Behind an address's question mark: what is no secret, and may be met in any text."""
_SHORTEST = 4
"""Characters of a secret that is looked for in texts: a shorter one would be found in any word."""
_WORDS = ("true", "false", "none")
"""No secrets, whatever a variable is called."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")
_HOST = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:.%]+\]")
_BROKER = re.compile(r"(?:[A-Za-z_]+://)?(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
_FILES = ("sqlite", "file", "unix")
_STORES = ("s3", "s3a", "gs", "az", "abfs", "abfss")

_secrets: dict[str, None] = {}
"""Those known so far; as keys, for their order does not matter and threads may add to them."""


def address(url: str) -> str:
    """What may be shown of it.

    >>> address("redis://me:hunter2@cache:6379/0?password=hunter2"), address("http://token@host:5000/path")
    ('redis://***@cache:6379/0?***', 'http://***@host:5000/***')
    >>> address("sqlite:///.local/mlflow.db"), address("postgresql://me:hunter2@db/runs"), address("hunter2")
    ('sqlite:///.local/mlflow.db', 'postgresql://***@db/***', '***')
    """
    scheme, found, rest = url.partition("://")
    if not found or not re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return MASK if url else ""
    before, _, query = rest.partition("?")
    before, _, fragment = before.partition("#")
    kind = scheme.lower().partition("+")[0]
    if kind in _FILES and "@" not in before:
        return f"{scheme}://{before}{_more(query or fragment)}"
    where, slash, path = before.partition("/")
    who, at, there = where.rpartition("@")
    host, _, port = there.rpartition(":") if re.search(r":\d*$", there) else (there, "", "")
    if not (_HOST.fullmatch(host) or not host) or "@" in path:
        return f"{scheme}://{MASK}"
    shown = f"{scheme}://{MASK + '@' if at or who else ''}{host}{':' + port if port else ''}{slash}"
    if path and (kind in _STORES or re.fullmatch(r"\d+", path)):
        shown += path
    elif path:
        shown += MASK
    return shown + _more(query or fragment)


def _more(query: str) -> str:
    return f"?{MASK}" if query else ""


def brokers(addresses: str) -> str:
    """What may be shown of Kafka's bootstrap addresses, `host:port,…`.

    >>> brokers("one:9092,me:hunter2@two:9092, [::1]:9092")
    'one:9092,***,[::1]:9092'
    """
    each = (one.strip() for one in addresses.split(","))
    return ",".join(one if _BROKER.fullmatch(one) else MASK for one in each)


def kafka_setting(name: str, value: str) -> str:
    """What may be shown of one of librdkafka's settings.

    >>> kafka_setting("linger.ms", "5"), kafka_setting("sasl.password", "hunter2")
    ('5', '***')
    """
    return value if name in _KAFKA_SHOWN and _SIMPLE_VALUE.fullmatch(value) else MASK


def keep(secret: str) -> None:
    """Let `text` replace it wherever it stands, also as it is written within an address."""
    for form in {secret, unquote(secret)}:
        for line in form.splitlines() or [form]:
            if len(line.strip()) >= _SHORTEST:
                _secrets[line.strip()] = None


def keep_address(url: str) -> None:
    """Likewise of all that an address does not show."""
    _, found, rest = url.partition("://")
    if not found:
        return
    who, at, _ = rest.partition("?")[0].rpartition("@")
    if at:
        keep(who)
        user, colon, password = who.partition(":")
        keep(password if colon else user)
    path = rest.partition("?")[0].rpartition("@")[2].partition("/")[2]
    if address(url).partition("?")[0].endswith(f"/{MASK}"):
        keep(path)
    query, _, fragment = rest.partition("?")[2].partition("#")
    keep(fragment)
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in _OPTIONS_SHOWN:
            keep(value)
    for name, value in parse_qsl(query):
        if name not in _OPTIONS_SHOWN:
            keep(value)


def keep_brokers(addresses: str) -> None:
    """Likewise of Kafka's addresses."""
    for one in addresses.split(","):
        if "@" in one:
            keep_address(one if "://" in one else f"kafka://{one.strip()}")


def keep_kafka(settings: Mapping[str, object]) -> None:
    """Likewise of librdkafka's settings."""
    for name, value in settings.items():
        if kafka_setting(name, str(value)) == MASK:
            keep(str(value))
            for part in re.findall(r"[\"']([^\"']+)[\"']|=\s*([^\s;\"',]+)", str(value)):  # as JAAS writes them
                keep(part[0] or part[1])


def keep_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Likewise of what other libraries' own variables hold: MLflow's, boto3's."""
    for name, value in environment.items():
        if re.search("(PASSWORD|TOKEN|SECRET|CREDENTIALS?)(_|$)", name) and value.lower() not in _WORDS:
            keep(value)


def text(said: str) -> str:
    """What may be shown of a text that somebody else may have written."""
    shown = _ADDRESS.sub(_cut, said)
    for secret in sorted(_secrets, key=len, reverse=True):
        shown = shown.replace(secret, MASK)
    return shown


def _cut(found: re.Match[str]) -> str:
    """An address in a text; one that hides nothing stays as it is, with the stops behind it."""
    whole = found.group()
    url = whole.rstrip(".,;:)]}")
    return (address(url) if "@" in url or "?" in url else url) + whole[len(url) :]


class Lines(logging.Formatter):
    """A log's lines, traces and all, that show what may be shown: every handler of ours has one."""

    def format(self, record: logging.LogRecord) -> str:
        return text(super().format(record))


def guard_traces() -> None:
    """Let Python's own traces, of this thread and of others, and log lines that nobody handles, show what may be shown.

    Each program begins with it.  Other libraries' variables are known as secrets from then on (`keep_environment`).
    """
    keep_environment()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Lines())

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(text("".join(traceback.format_exception(kind, error, trace))))

    def of_thread(said: threading.ExceptHookArgs) -> None:
        if said.exc_value is not None:
            hook(said.exc_type, said.exc_value, said.exc_traceback)

    sys.excepthook = hook
    threading.excepthook = of_thread
