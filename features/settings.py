"""The settings that every part which reads the log shares, and how settings are read: once, at the start, from one place."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec

from features.accepting import Bounds, Rules
from features.hash_keys import KEY_DIGITS, PUBLIC, HashKeys
from features.registry import Registry
from schemas import installation, masking
from schemas.avro_wire import NO_REGISTRY, Writers
from schemas.currencies import UNITS_PER_EURO, Rates
from schemas.errors import WrongSettings
from schemas.topics import DEFAULT_PARTITIONS, Topic

PREFIX = "FRAUD_"
FILE = "FRAUD_SETTINGS"
"""Names the TOML file.  What all parts share stands at its top, what only a worker knows in its table [worker]."""
WORKER = "worker"
OWN = "own"
"""In the `extra` of a setting's Meta: what makes its default of the topic prefix, so that no two installations share it."""

FORBIDDEN: Mapping[str, str] = {
    "bootstrap.servers": "it is FRAUD_KAFKA_URL",
    "group.id": "it is FRAUD_GROUP",
    "group.instance.id": "it is made of FRAUD_SLOT: a restarted worker gets its partitions back without a rebalance",
    "transactional.id": "it is made of FRAUD_GROUP and FRAUD_SLOT: it fences the worker that was here before",
    "isolation.level": "committed offsets and activity must be read committed, or verdicts are doubled",
    "enable.auto.commit": "offsets are committed with the verdicts, in one transaction",
    "auto.offset.reset": "it must be error: any other would judge the whole log again, or skip a part of it",
    "enable.auto.offset.store": "offsets are committed with the verdicts, in one transaction",
    "group.protocol": "the generation must not change under an open transaction: classic is the one",
    "partition.assignment.strategy": "range gives a worker the same partition numbers of every input topic",
    "enable.idempotence": "transactions need it",
    "enable.partition.eof": "the order of catching up depends on it",
    "partitioner": "keys belong to murmur2's partition, which the worker checks",
}
"""librdkafka's settings that can't be passed through, and why."""


_PORT = "write redis://host:6379/0"
_MAKE_A_KEY = f"`openssl rand -hex {KEY_DIGITS // 2}` makes one"
NO_KEY = (
    f"FRAUD_ID_KEY is missing, the secret that ids are hashed by in profiles: {_MAKE_A_KEY}; all workers and tools of an "
    "installation need the same one, so keep it. `make up` keeps its own in .local/id-key"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where Kafka and Redis are, and what a fold depends on."""

    kafka_url: Annotated[str, msgspec.Meta(min_length=1, description="Kafka's bootstrap addresses, host:port,…")] = (
        "127.0.0.1:9092"
    )
    redis_url: Annotated[str, msgspec.Meta(pattern="^(rediss?|unix)://", description="where profiles are kept")] = (
        "redis://127.0.0.1:6379/0"
    )
    redis_timeout: Annotated[
        float,
        msgspec.Meta(gt=0, description="seconds for connecting to Redis and for each of its answers"),
    ] = 2.0
    topic_prefix: Annotated[
        str, msgspec.Meta(pattern=r"^[a-zA-Z0-9._-]*$", description="before every topic's name, and in every Redis key")
    ] = ""
    group: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="the workers' consumer group; the topic prefix goes before the default",
            extra={OWN: installation.group},
        ),
    ] = installation.group("")
    partitions: Annotated[
        int,
        msgspec.Meta(ge=1, le=10_000, description="of each input topic; pinned, for profiles are kept by partition"),
    ] = DEFAULT_PARTITIONS
    currency: Annotated[
        str, msgspec.Meta(pattern="^[A-Z]{3}$", description="what profiles are kept in; part of the profile format")
    ] = "EUR"
    rates: Annotated[
        dict[str, Annotated[float, msgspec.Meta(gt=0, le=1e9)]],
        msgspec.Meta(
            description="units of a currency for one euro, over the built-in table; part of the profile format"
        ),
    ] = {}
    future_tolerance: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1e9,
            description="seconds that occurred_at, or a label's known_at, may lie after the record's timestamp; part of the "
            "profile format",
        ),
    ] = 600.0
    most_attributes: Annotated[
        int, msgspec.Meta(ge=0, description="of one transaction that is accepted; part of the profile format")
    ] = 1_000
    longest_attribute_name: Annotated[
        int, msgspec.Meta(ge=1, description="characters of an attribute's name; part of the profile format")
    ] = 128
    longest_attribute_text: Annotated[
        int,
        msgspec.Meta(ge=1, description="characters of an attribute's value that is text; part of the profile format"),
    ] = 1_024
    id_key: Annotated[
        str,
        msgspec.Meta(
            description=f"the secret that ids are hashed by in profiles and activity, {KEY_DIGITS} hex digits; its "
            "fingerprint is part of the profile format"
        ),
    ] = ""
    schema_registry_url: Annotated[
        str,
        msgspec.Meta(
            pattern="^(https?://.+)?$",
            description="where the schemas of messages in Avro are; empty: there are none in Avro",
        ),
    ] = ""
    kafka: Annotated[
        dict[str, str],
        msgspec.Meta(
            description="librdkafka's own settings, passed through (FRAUD_KAFKA__SECURITY_PROTOCOL is security.protocol)"
        ),
    ] = {}

    def __post_init__(self) -> None:
        for name in self.kafka:
            if name in FORBIDDEN:
                raise ValueError(f"the librdkafka setting {name} can't be changed: {FORBIDDEN[name]}")
        self.conversion()
        if self.id_key:
            self._keys()
        try:
            _ = urlsplit(self.redis_url).port
        except ValueError as error:
            raise ValueError(
                f"FRAUD_REDIS_URL is {masking.address(self.redis_url)}, which has no port: {_PORT}"
            ) from error

    def rules(self) -> Rules:
        """What accepting and folding depend on.  Raises WrongSettings where there is no key to fold by."""
        if not self.id_key:
            raise WrongSettings(NO_KEY)
        return self.rules_of_past()

    def rules_of_past(self) -> Rules:
        """Likewise of a past that is neither folded nor told: by the installation's key, or where none is set by PUBLIC."""
        return Rules(
            self.partitions,
            round(self.future_tolerance * 1e6),
            self.conversion(),
            self._keys() if self.id_key else PUBLIC,
            self.writers(),
            Bounds(self.most_attributes, self.longest_attribute_name, self.longest_attribute_text),
        )

    def conversion(self) -> Rates:
        """What amounts are converted by.  Raises ValueError where a rate is none."""
        table = dict(UNITS_PER_EURO) | {code.upper(): repr(rate) for code, rate in self.rates.items()}
        if self.currency not in table:
            raise ValueError(f"currency {self.currency} has no rate: set FRAUD_RATES__{self.currency}")
        return Rates.of(self.currency, table)

    def writers(self) -> Writers:
        """Where the schemas of messages in Avro are."""
        return Registry(self.schema_registry_url) if self.schema_registry_url else NO_REGISTRY

    def _keys(self) -> HashKeys:
        try:
            return HashKeys.of(self.id_key)
        except ValueError as error:
            raise ValueError(f"FRAUD_ID_KEY is no key: {error}; {_MAKE_A_KEY}") from error

    @property
    def kafka_shown(self) -> str:
        """Where Kafka is, as it may be shown."""
        return masking.brokers(self.kafka_url)

    def __repr__(self) -> str:
        each = (f"{name}={shown(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(each)})"

    def topic(self, topic: Topic) -> str:
        """Its name in this installation."""
        return self.topic_prefix + topic.name

    @property
    def explainers(self) -> str:
        """The consumer group of what completes alerts."""
        return f"{self.group}-explainer"

    def client(self, **own: str | int | float | bool) -> dict[str, Any]:
        """librdkafka's settings for a client: the address, what this client needs, and over it what is passed through."""
        # librdkafka would write to standard error at every attempt to connect; what matters reaches us as an error as well.
        always = {"bootstrap.servers": self.kafka_url, "reconnect.backoff.max.ms": 500, "log_level": 2}
        return {**always, **_dotted(own), **self.kafka}


def _dotted(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in own.items()}


AnySettings = TypeVar("AnySettings", bound=Settings)


def load(kind: type[AnySettings], environment: Mapping[str, str], *, file: Path | None = None) -> AnySettings:
    """Settings of this kind from a TOML file and, over it, the environment.

    Raises WrongSettings, naming the setting and what would be right.
    """
    given, _ = _given(kind, environment, file)
    _keep_secrets(given)
    try:
        return msgspec.convert(given, kind, strict=False)
    except (msgspec.ValidationError, ValueError, KeyError) as error:
        raise WrongSettings(_of_one_key(kind, given) or _in_words(str(error))) from error


def _of_one_key(kind: type[Settings], given: Mapping[str, Any]) -> str | None:
    """What is wrong within a table, with the key that msgspec doesn't name."""
    hints = get_type_hints(kind, include_extras=True)
    for name, table in given.items():
        for key, value in table.items() if isinstance(table, dict) else ():
            try:
                msgspec.convert({key: value}, hints[name], strict=False)
            except msgspec.ValidationError as error:
                what, _, _ = str(error).partition(" - at `$")
                shown = str(value) if name in _PLAIN else _shown_of_table(name, key, value)
                quoted = shown if name == "kafka" or shown == masking.MASK else repr(shown)
                return f"{PREFIX}{name.upper()}__{key} is {quoted}: {what}"
    return None


def unknown(kind: type[Settings], environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none, in words.

    They are no error: whoever runs a service called fraud in Kubernetes gets FRAUD_SERVICE_HOST for nothing.
    """
    known = [PREFIX + field.name.upper() for field in msgspec.structs.fields(kind)]
    words = []
    for variable in sorted(environment):
        name = variable.partition("__")[0]
        if variable.startswith(PREFIX) and variable != FILE and name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.8)
            words.append(f"{variable} is no setting, and nothing reads it" + (f": {near[0]}?" if near else ""))
    return words


class Line(NamedTuple):
    """One setting, for people."""

    name: str
    value: str
    default: str
    source: str
    meaning: str


def explain(kind: type[AnySettings], environment: Mapping[str, str], *, file: Path | None = None) -> list[Line]:
    """All settings of this kind, with meaning, default and where each value comes from.  Raises WrongSettings."""
    settings = load(kind, environment, file=file)
    _, sources = _given(kind, environment, file)
    hints = get_type_hints(kind, include_extras=True)
    lines = []
    for field in msgspec.structs.fields(kind):
        meaning = next((m.description for m in get_args(hints[field.name]) if isinstance(m, msgspec.Meta)), "")
        default = "" if field.default is msgspec.NODEFAULT else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        lines.append(
            Line(
                name=PREFIX + field.name.upper(),
                value=shown(field.name, getattr(settings, field.name)),
                default=shown(field.name, default),
                source=sources.get(field.name, "default"),
                meaning=meaning or "",
            )
        )
    return lines


_PLAIN = frozenset(("topic_prefix", "group", "currency", "bundle", "web_host", "mlflow_model", "log_level"))
"""Settings whose text is no secret.  What is neither here nor has a way of its own below is not shown."""


def shown(name: str, value: object) -> str:
    """What may be shown of a setting's value."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown_of_table(name, key, one)}" for key, one in value.items()) or "none"
    if not isinstance(value, str) or not value or name in _PLAIN:
        return "none" if value is None else str(value)
    if name == "id_key":
        return f"{masking.MASK} (fingerprint {HashKeys.of(value).fingerprint})"
    if name.endswith(("_url", "_uri")):
        return masking.brokers(value) if name == "kafka_url" else masking.address(value)
    return masking.MASK


def _shown_of_table(name: str, key: str, value: object) -> str:
    if name == "kafka":
        return masking.kafka_setting(key, str(value))
    return str(value) if re.fullmatch(r"[-+\d.,eE_ ]{1,40}|nan|inf", str(value)) else masking.MASK


def _keep_secrets(given: Mapping[str, Any]) -> None:
    """Let no text that is shown have them, also where these settings are refused."""
    for name, value in given.items():
        if name == "kafka_url":
            masking.keep_brokers(str(value))
        elif name == "kafka" and isinstance(value, dict):
            masking.keep_kafka(value)
        elif name.endswith(("_url", "_uri")):
            masking.keep_address(str(value))
        elif name.endswith("_key"):
            masking.keep(str(value))


def _given(
    kind: type[Settings], environment: Mapping[str, str], file: Path | None
) -> tuple[dict[str, Any], dict[str, str]]:
    fields = {field.name for field in msgspec.structs.fields(kind)}
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    shared = {field.name for field in msgspec.structs.fields(Settings)}
    if file is None and FILE in environment:
        file = Path(environment[FILE])
    if file is not None:
        content = _read(file)
        own = content.pop(WORKER, {})
        if not isinstance(own, dict):
            raise WrongSettings(f"{file}: {WORKER} is a table, [{WORKER}], not {own!r}")
        if fields != shared:
            content |= own
        for name, value in content.items():
            if name not in fields:
                there = f"there are {', '.join(sorted(shared))}, and a worker's own in a table [{WORKER}]"
                raise WrongSettings(f"{file}: there is no setting {name!r} there; {there}")
            given[name], sources[name] = value, str(file)
    for name, inner, value in _of_environment(environment, fields):
        if inner is None:
            given[name] = value
        else:
            before = given.get(name)
            given[name] = {**(before if isinstance(before, dict) else {}), inner: value}
        sources[name] = "environment"
    for name, own in _own_defaults(kind):
        given.setdefault(name, own(str(given.get("topic_prefix", ""))))
    return given, sources


def _own_defaults(kind: type[Settings]) -> Iterator[tuple[str, Callable[[str], str]]]:
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for meta in get_args(hint):
            extra = meta.extra if isinstance(meta, msgspec.Meta) else None
            if extra is not None and OWN in extra:
                yield name, extra[OWN]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text())
    except OSError as error:
        raise WrongSettings(f"{FILE} names {file}, which can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongSettings(f"{file} is no TOML: {error}") from error
    if isinstance(content.get("kafka"), dict):
        content["kafka"] = {key: str(value) for key, value in content["kafka"].items()}
    return content


def _of_environment(environment: Mapping[str, str], fields: set[str]) -> Iterator[tuple[str, str | None, str]]:
    for variable, value in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable == FILE:
            continue
        name, _, inner = variable.removeprefix(PREFIX).partition("__")
        if name.lower() in fields:
            key = inner.lower().replace("_", ".") if name == "KAFKA" else inner
            yield name.lower(), key if inner else None, value


def _in_words(error: str) -> str:
    if " - at `$." in error:
        what, _, where = error.partition(" - at `$.")
        return f"{PREFIX}{where.rstrip('`').split('.')[0].split('[')[0].upper()}: {what}"
    if "missing required field" in error:
        return f"{PREFIX}{error.split('`')[1].upper()} is missing"
    return error.strip("'\"")
