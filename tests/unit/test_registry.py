"""What the registry has is kept for good, what it says it hasn't is refused, and where it says nothing nothing is decided."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from features.accepting import Rules
from features.describing import read
from features.registry import ASKED_AGAIN, Registry
from features.settings import Settings
from schemas.errors import LEFT_OUT, BadMessage, Fault, PartitionParked, RegistryUnavailable
from tests.avro import framed, in_avro
from tests.builders import ID_KEY, a_record, a_transaction
from tests.fleet.registry import FakeRegistry


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def refusal(registry: Registry, schema_id: int) -> str:
    with pytest.raises(BadMessage) as bad:
        registry.schema(schema_id)
    assert bad.value.fault is Fault.UNKNOWN_SCHEMA
    return bad.value.detail


def test_a_schema_is_asked_for_once(fake: FakeRegistry) -> None:
    registry = Registry(fake.url + "/")
    fake.has(7)
    assert registry.unknown([None, 7, 7]) == {7}
    first = registry.schema(7)
    fake.go_away()

    assert registry.schema(7) is first
    assert registry.unknown([7]) == set()
    assert fake.asked == {"/schemas/ids/7": 1}


class Clock:
    """Tells the seconds that it is set to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_an_id_that_it_has_not_is_asked_for_again_after_some_seconds_and_not_in_every_batch(fake: FakeRegistry) -> None:
    registry = Registry(fake.url, clock := Clock())
    for _ in range(50):
        asked = registry.unknown(range(300))
        if asked:
            registry.learn(asked)
        assert refusal(registry, 7) == f"schema 7 is not registered (registry {fake.url})"
    assert fake.asked.total() == 300

    clock.now += ASKED_AGAIN
    assert registry.unknown([7, 8]) == {7, 8}


def test_a_schema_registered_after_it_was_asked_for_is_found(fake: FakeRegistry) -> None:
    registry = Registry(fake.url, clock := Clock())
    assert refusal(registry, 7)
    fake.has(7)
    assert refusal(registry, 7)
    clock.now += ASKED_AGAIN
    registry.learn(registry.unknown([7]))

    assert registry.schema(7).schema_id == 7


def test_who_only_reads_finds_it_too(fake: FakeRegistry) -> None:
    """The archiver, the checker and a rebuild ask for no batch's ids beforehand."""
    registry = Registry(fake.url, clock := Clock())
    assert refusal(registry, 7)
    fake.has(7)
    clock.now += ASKED_AGAIN
    assert refusal(registry, 7), "what a batch has asked for is told alike for a while"
    clock.now += ASKED_AGAIN

    assert registry.schema(7).schema_id == 7


def test_a_schema_of_no_use_is_asked_for_once_for_an_id_never_means_another(fake: FakeRegistry) -> None:
    registry = Registry(fake.url, clock := Clock())
    fake.has(7, schemaType="PROTOBUF")
    for _ in range(3):
        assert refusal(registry, 7)
        clock.now += 1_000 * ASKED_AGAIN
        assert registry.unknown([7]) == set()

    assert fake.asked.total() == 1


def test_many_ids_are_learnt_at_once(fake: FakeRegistry) -> None:
    registry = Registry(fake.url)
    for schema_id in range(0, 60, 2):
        fake.has(schema_id)
    registry.learn(range(60))

    assert registry.unknown(range(60)) == set()
    assert refusal(registry, 59)
    assert registry.schema(58)
    assert sum(fake.asked.values()) == 60


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"schemaType": "PROTOBUF"}, "is PROTOBUF, and not Avro"),
        ({"references": [{"name": "Money", "subject": "money", "version": 1}]}, "refers to others"),
        ({"schema": "{"}, "no schema of Avro's"),
    ],
)
def test_a_schema_that_is_of_no_use_is_refused(fake: FakeRegistry, more: dict[str, object], why: str) -> None:
    fake.has(7, **more)

    assert why in refusal(Registry(fake.url), 7)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"<html>Not Found</html>", "answers 404 and no JSON"),
        (404, b'{"error_code":404,"message":"HTTP 404 Not Found"}', "HTTP 404 Not Found"),
        (401, b'{"error_code":401,"message":"Unauthorized"}', "Unauthorized"),
        (503, b"", "answers 503"),
        (500, b'{"error_code":50001,"message":"Error in the backend"}', "Error in the backend"),
        (200, b"[]", "no JSON"),
        (200, b"{}", "without a schema"),
    ],
)
def test_an_answer_that_is_none_decides_nothing(fake: FakeRegistry, status: int, body: bytes, said: str) -> None:
    registry = Registry(fake.url)
    fake.has(7)
    with fake.answering(status, body), pytest.raises(RegistryUnavailable, match=said):
        registry.schema(7)

    assert registry.schema(7).schema_id == 7


def test_while_nobody_answers_it_is_waited_for_and_then_all_goes_on(fake: FakeRegistry) -> None:
    registry = Registry(fake.url)
    registry.check()  # nothing was asked: nothing to wait for
    fake.has(7)
    fake.go_away()
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        registry.learn([7, 8])
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        registry.check()
    fake.listen()
    registry.check()

    assert registry.schema(7).schema_id == 7
    assert refusal(registry, 8)


def test_its_password_is_said_nowhere(fake: FakeRegistry) -> None:
    registry = Registry(fake.url.replace("//", "//worker:secret@"))
    assert "secret" not in refusal(registry, 7)
    fake.go_away()
    with pytest.raises(RegistryUnavailable) as away:
        registry.learn([8])
    assert "secret" not in str(away.value)


# What a fold makes of it.


def test_with_and_without_a_registry_profiles_are_of_one_format() -> None:
    with_one = Settings(schema_registry_url="http://127.0.0.1:1", id_key=ID_KEY)
    assert with_one.rules().format() == Settings(id_key=ID_KEY).rules().format()


@pytest.mark.parametrize("registered", [True, False])
def test_what_was_told_and_can_not_be_read_any_more_is_dropped_by_no_fold(fake: FakeRegistry, registered: bool) -> None:
    """Without a dead letter it was judged: leaving it out would make other profiles of the same log."""
    rules = Settings(schema_registry_url=fake.url, id_key=ID_KEY).rules() if registered else Rules()
    one = a_transaction()
    record = a_record(one, value=in_avro(one, 7))
    assert [rejected.fault in LEFT_OUT for rejected in read(rules, [(record, True)]).rejected] == [True]

    with pytest.raises(PartitionParked, match=r"transactions \[\d\] at 0 could be read when it was told") as parked:
        read(rules, [(record, False)])
    assert parked.value.partition == record.partition, "the others go on"


def test_what_its_own_bytes_spoil_is_left_out_of_a_fold_in_silence(fake: FakeRegistry) -> None:
    fake.has(7)
    rules = Settings(schema_registry_url=fake.url, id_key=ID_KEY).rules()
    record = a_record(a_transaction(), value=framed(7, json.dumps({}).encode()))

    assert read(rules, [(record, True)]).rejected[0].fault is Fault.NOT_AVRO
    assert len(read(rules, [(record, False)])) == 0
