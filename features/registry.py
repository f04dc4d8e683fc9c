"""The schema registry: which schema a message in Avro was written by.  Asked over HTTP, as Confluent's is asked.

An id is decided in three ways.  The registry has it: kept for good, for an id never means another schema; also one that no
message of ours can be written by.  It says itself that it has none: that is believed for some seconds (ASKED_AGAIN), so that
noise is not asked for in every batch, and a schema registered later is found.  Either of the latter is a dead letter, which
every fold then leaves out, so that it does not matter what the registry learns later.  It says nothing of the kind: nothing is
decided, it is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas import masking
from schemas.avro_wire import Unusable, WriterSchema
from schemas.errors import BadMessage, Fault, RegistryUnavailable

if TYPE_CHECKING:
    import httpx

TIMEOUT = 2.0
"""Seconds for an answer."""
_AT_ONCE = 16
"""Ids asked for at the same time.  A batch has one or two; noise that begins with a zero has as many as it has messages."""
_NO_SUCH_SCHEMA = range(40400, 40500)
"""What a registry says in the body of its 404: one without it comes from something else at that address."""


ASKED_AGAIN = 5.0
"""Seconds after which a registry that had no schema of an id is asked for it once more."""
_MOST_REFUSED = 10_000
"""Ids without a schema that are remembered: noise has four thousand million."""
_FOR_GOOD = float("inf")


class _Refused(NamedTuple):
    why: str
    until: float


class Registry:
    """Writers' schemas by id.  Learnt by one thread at a time."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._url = url.rstrip("/")
        self._shown = masking.address(self._url)
        self._known: dict[int, WriterSchema] = {}
        self._refused: dict[int, _Refused] = {}
        """What the registry said it hasn't, or hasn't for us: the first asked for comes first."""
        self._unanswered: frozenset[int] = frozenset()

    def schema(self, schema_id: int) -> WriterSchema:
        """Asks, where it was not asked yet.  Raises BadMessage, RegistryUnavailable."""
        # Later than `unknown` would: what a batch has asked for is not asked for again while the batch is read.
        if schema_id not in self._known and self._is_to_be_asked(schema_id, self._clock() - ASKED_AGAIN):
            self.learn([schema_id])
        if (refused := self._refused.get(schema_id)) is not None:
            raise BadMessage(Fault.UNKNOWN_SCHEMA, f"schema {schema_id} {refused.why} (registry {self._shown})")
        return self._known[schema_id]

    def unknown(self, schema_ids: Iterable[int | None]) -> set[int]:
        """Those that must be asked for: also those that it had not when it was asked some seconds ago."""
        now = self._clock()
        return {
            one for one in schema_ids if one is not None and one not in self._known and self._is_to_be_asked(one, now)
        }

    def learn(self, schema_ids: Iterable[int]) -> None:
        """Ask for these.  Raises RegistryUnavailable where it doesn't answer them all."""
        self._unanswered = frozenset(schema_ids)
        for schema_id in self._unanswered:
            self._refused.pop(schema_id, None)
        first, *others = self._unanswered
        self._ask(first)  # alone: where nobody answers, that is said once
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            try:
                list(threads.map(self._ask, others))
            except RegistryUnavailable:
                threads.shutdown(cancel_futures=True)
                raise
        self._unanswered = frozenset()
        while len(self._refused) > max(_MOST_REFUSED, len(others) + 1):
            del self._refused[next(iter(self._refused))]

    def _is_to_be_asked(self, schema_id: int, now: float) -> bool:
        refused = self._refused.get(schema_id)
        return refused is None or refused.until <= now

    def check(self) -> None:
        """Ask again for what was not answered, if anything was not.  Raises RegistryUnavailable as long as it isn't."""
        if self._unanswered:
            self.learn(self._unanswered)

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 - a tenth of a second that whoever has no message in Avro can spare

        return httpx.Client(timeout=TIMEOUT, headers={"Accept": "application/vnd.schemaregistry.v1+json"})

    def _ask(self, schema_id: int) -> None:
        import httpx  # noqa: PLC0415

        try:
            answer = self._client.get(f"{self._url}/schemas/ids/{schema_id}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(f"does not answer ({masking.text(str(error)) or type(error).__name__})") from error
        try:
            said: Any = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise self._away(f"answers {answer.status_code} and no JSON: is that the address of a registry's API?")
        if answer.status_code == 404 and said.get("error_code") in _NO_SUCH_SCHEMA:
            self._refused[schema_id] = _Refused("is not registered", self._clock() + ASKED_AGAIN)
        elif answer.status_code != 200 or not isinstance(said.get("schema"), str):
            raise self._away(f"answers {answer.status_code}: {said.get('message', 'without a schema')!s:.200}")
        elif (kind := said.get("schemaType", "AVRO")) != "AVRO":
            self._refused[schema_id] = _Refused(f"is {kind}, and not Avro", _FOR_GOOD)
        elif said.get("references"):
            self._refused[schema_id] = _Refused(
                "refers to others, which are not followed: it must be registered whole", _FOR_GOOD
            )
        else:
            try:
                self._known[schema_id] = WriterSchema(schema_id, said["schema"])
            except Unusable as error:
                self._refused[schema_id] = _Refused(str(error), _FOR_GOOD)

    def _away(self, why: str) -> RegistryUnavailable:
        return RegistryUnavailable(f"the schema registry at {self._shown} {why}")
