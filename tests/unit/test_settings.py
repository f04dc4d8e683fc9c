"""Settings are read once; what is missing, wrong or forbidden is named, with what would be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.hash_keys import PUBLIC, HashKeys
from features.settings import FORBIDDEN, Settings, explain, load, unknown
from schemas.errors import WrongSettings
from schemas.topics import TRANSACTIONS
from streaming.settings import WorkerSettings
from tests.builders import ID_KEY
from tests.examples import examples


def wrong(environment: dict[str, str], kind: type[Settings] = Settings, file: Path | None = None) -> str:
    with pytest.raises(WrongSettings) as error:
        load(kind, environment, file=file)
    return str(error.value)


def test_nothing_needs_to_be_set() -> None:
    assert load(Settings, {}) == Settings()
    assert load(WorkerSettings, {"PATH": "/bin", "FRAUD": "no", "FRAUDULENT": "yes"}) == WorkerSettings()


def test_the_environment_is_read_as_what_each_setting_is() -> None:
    settings = load(
        WorkerSettings,
        {
            "FRAUD_KAFKA_URL": "broker:9092",
            "FRAUD_PARTITIONS": "12",
            "FRAUD_FUTURE_TOLERANCE": "1.5",
            "FRAUD_RATES__USD": "1.25",
            "FRAUD_RATES__XTS": "3",
            "FRAUD_KAFKA__SECURITY_PROTOCOL": "SSL",
            "FRAUD_ID_KEY": ID_KEY,
            "FRAUD_REVIEW": "0.5",
            "FRAUD_VECTORS": "false",
            "FRAUD_SLOT": "3",
        },
    )

    assert (settings.kafka_url, settings.partitions, settings.slot) == ("broker:9092", 12, 3)
    assert (settings.review, settings.vectors) == (0.5, False)
    assert settings.kafka == {"security.protocol": "SSL"}
    rules = settings.rules()
    assert (rules.partitions, rules.future_tolerance) == (12, 1_500_000)
    assert (rules.amount(125, "USD"), rules.amount(300, "XTS")) == (100, 100)


def test_nothing_is_folded_without_a_key_and_who_has_none_is_told_how_to_make_one() -> None:
    with pytest.raises(WrongSettings, match=r"FRAUD_ID_KEY is missing.*`openssl rand -hex 32` makes one"):
        Settings().rules()


@pytest.mark.parametrize("key", [ID_KEY[1:], ID_KEY + "0", ID_KEY.replace("f", "g"), "correct horse battery"])
def test_what_is_no_key_is_named_and_not_shown(key: str) -> None:
    said = wrong({"FRAUD_ID_KEY": key})

    assert "FRAUD_ID_KEY is no key: it must be 64 hex digits" in said
    assert key not in said


def test_a_past_is_described_by_the_installations_key_or_where_none_is_set_by_the_public_one() -> None:
    assert Settings(id_key=ID_KEY).rules_of_past().keys == Settings(id_key=ID_KEY).rules().keys == HashKeys.of(ID_KEY)
    assert Settings().rules_of_past().keys == PUBLIC


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "fraud.toml"
    file.write_text(
        'kafka_url = "of-the-file:1"\ngroup = "of-the-file"\n'
        '[rates]\nUSD = 2\nXTS = 4\n[kafka]\n"ssl.ca.location" = "/ca"\n"linger.ms" = 9\n[worker]\nslot = 5\n'
    )
    environment = {"FRAUD_SETTINGS": str(file), "FRAUD_GROUP": "mine", "FRAUD_RATES__USD": "8", "FRAUD_SLOT": "6"}

    settings = load(WorkerSettings, environment)

    assert (settings.kafka_url, settings.group, settings.slot) == ("of-the-file:1", "mine", 6)
    assert settings.rates == {"USD": 8.0, "XTS": 4.0}
    assert settings.kafka == {"ssl.ca.location": "/ca", "linger.ms": "9"}
    assert load(Settings, environment).group == "mine"  # a tool reads the same file


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"FRAUD_PARTITIONS": "four"}, "FRAUD_PARTITIONS: Expected `int`"),
        ({"FRAUD_PARTITIONS": "0"}, "FRAUD_PARTITIONS: Expected `int` >= 1"),
        ({"FRAUD_KAFKA_URL": ""}, "FRAUD_KAFKA_URL: Expected `str` of length >= 1"),
        ({"FRAUD_REDIS_URL": "localhost:6379"}, "FRAUD_REDIS_URL: Expected `str` matching"),
        ({"FRAUD_REDIS_URL": "redis://localhost:port"}, "FRAUD_REDIS_URL is redis://***, which has no port"),
        ({"FRAUD_TOPIC_PREFIX": "a b"}, "FRAUD_TOPIC_PREFIX: Expected `str` matching"),
        ({"FRAUD_CURRENCY": "XTS"}, "FRAUD_RATES__XTS"),
        ({"FRAUD_CURRENCY": "euro"}, "FRAUD_CURRENCY: Expected `str` matching"),
        ({"FRAUD_RATES__USD": "cheap"}, "FRAUD_RATES__USD is ***: Expected `float`"),
        *(({"FRAUD_RATES__USD": rate}, f"FRAUD_RATES__USD is {rate!r}: Expected `float`") for rate in ("0", "-1", "nan", "inf")),
        *(
            ({"FRAUD_FUTURE_TOLERANCE": wait}, "FRAUD_FUTURE_TOLERANCE: Expected `float`")
            for wait in ("-1", "nan", "inf", "soon")
        ),
        ({"FRAUD_KAFKA": "x"}, "FRAUD_KAFKA: Expected `object`"),
        ({"FRAUD_RATES": "x", "FRAUD_KAFKA": "y", "FRAUD_KAFKA__LINGER_MS": "1"}, "FRAUD_RATES: Expected `object`"),
        ({"FRAUD_GROUP__A": "x"}, "FRAUD_GROUP__A is 'x': Expected `str`"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(environment: dict[str, str], named: str) -> None:
    assert named in wrong(environment)
    assert named in wrong(environment, WorkerSettings)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"FRAUD_SLOT": "-1"}, "FRAUD_SLOT: Expected `int` >= 0"),
        ({"FRAUD_BATCH": "5000"}, "FRAUD_BATCH: Expected `int` <= 1500"),
        ({"FRAUD_REVIEW": "2"}, "FRAUD_REVIEW"),
        ({"FRAUD_REVIEW": "0.9", "FRAUD_DECLINE": "0.5"}, "FRAUD_REVIEW (0.9) must not be above FRAUD_DECLINE (0.5)"),
        ({"FRAUD_HEARTBEAT": "3"}, "FRAUD_SESSION_TIMEOUT must be at least three times FRAUD_HEARTBEAT"),
        ({"FRAUD_LOG_LEVEL": "loud"}, "FRAUD_LOG_LEVEL"),
    ],
)
def test_a_workers_wrong_setting_is_named(environment: dict[str, str], named: str) -> None:
    assert named in wrong(environment, WorkerSettings)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_would_break_the_guarantees_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    refused = f"the librdkafka setting {name} can't be changed: {FORBIDDEN[name]}"
    file = tmp_path / "fraud.toml"
    file.write_text(f'[kafka]\n"{name}" = "x"\n')

    assert refused in wrong({f"FRAUD_KAFKA__{name.upper().replace('.', '_')}": "x"})
    assert refused in wrong({"FRAUD_SETTINGS": str(file)})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"group =", "is no TOML"),
        (b'group = "\xff"', "is no TOML"),
        (b'gruop = "x"', "there is no setting 'gruop'"),
        (b"worker = 3", "worker is a table"),
        (b"[worker]\nslto = 1", "there is no setting 'slto'"),
        (b"partitions = 2.5", "FRAUD_PARTITIONS: Expected `int`"),
        (b'kafka = "x"', "FRAUD_KAFKA: Expected `object`"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong_in_it(content: bytes, named: str, tmp_path: Path) -> None:
    file = tmp_path / "fraud.toml"
    file.write_bytes(content)

    assert named in wrong({}, WorkerSettings, file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"FRAUD_SETTINGS names {tmp_path / 'none'}" in wrong({"FRAUD_SETTINGS": str(tmp_path / "none")})


def test_every_setting_is_explained_with_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "fraud.toml"
    file.write_text('group = "g"\n')
    environment = {
        "FRAUD_SETTINGS": str(file),
        "FRAUD_SLOT": "4",
        "FRAUD_KAFKA__SASL_PASSWORD": "secret",
        "FRAUD_KAFKA__SASL_USERNAME": "me",
    }

    lines = {line.name: line for line in explain(WorkerSettings, environment)}

    assert set(lines) == {f"FRAUD_{name.upper()}" for name in WorkerSettings.__struct_fields__}
    assert all(len(line.meaning) > 5 for line in lines.values())
    assert lines["FRAUD_GROUP"][1:4] == ("g", "fraud-scorer", str(file))
    assert lines["FRAUD_SLOT"][1:4] == ("4", "0", "environment")
    assert lines["FRAUD_REVIEW"][1:4] == ("none", "none", "default")
    assert lines["FRAUD_KAFKA"].value == "sasl.password=***, sasl.username=me"


@examples(150)
@given(
    st.dictionaries(
        st.sampled_from([f"FRAUD_{name.upper()}" for name in WorkerSettings.__struct_fields__])
        | st.sampled_from(["FRAUD_KAFKA__X", "FRAUD_RATES__EUR", "FRAUD_RATES__X", "FRAUD_SLOT__Y", "FRAUD_"]),
        st.text(max_size=8) | st.sampled_from(["1", "nan", "inf", "-inf", "1e999", "true", "redis://[", "null", "{}"]),
        max_size=5,
    )
)
def test_no_environment_raises_anything_but_wrong_settings(environment: dict[str, str]) -> None:
    try:
        settings = load(WorkerSettings, environment)
    except WrongSettings as error:
        named = str(error)
    else:
        settings.conversion()
        settings.rules_of_past()
        return
    assert re.search("FRAUD_[A-Z]|librdkafka setting", named), named


def test_topics_and_clients_are_named_by_the_settings() -> None:
    settings = load(Settings, {"FRAUD_TOPIC_PREFIX": "bank-", "FRAUD_KAFKA__LINGER_MS": "7"})

    assert settings.topic(TRANSACTIONS) == "bank-transactions"
    client = settings.client(linger_ms=5, acks="all")
    assert (client["bootstrap.servers"], client["linger.ms"], client["acks"]) == ("127.0.0.1:9092", "7", "all")


def test_settings_are_values() -> None:
    with pytest.raises(AttributeError):
        Settings().group = "other"  # type: ignore[misc]


def test_a_variable_that_nothing_reads_is_told_with_what_was_meant() -> None:
    environment = {"FRAUD_BATCHES": "1", "FRAUD_SERVICE_HOST": "10.0.0.1", "FRAUD_SLOT": "1", "FRAUD_RATES__USD": "1"}

    told = unknown(WorkerSettings, environment)

    assert told == [
        "FRAUD_BATCHES is no setting, and nothing reads it: FRAUD_BATCH?",
        "FRAUD_SERVICE_HOST is no setting, and nothing reads it",
    ]
