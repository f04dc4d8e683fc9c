"""The schema registry: which schema a message in Avro was written by.  Asked over HTTP, as Confluent's is asked.

An id is decided in three ways.  The registry has it: kept for good, for an id never means another schema.  It says itself
that it has none, or has one that no message of ours can be written by: a dead letter, which every fold then leaves out, so
that it does not matter what the registry learns later.  It says nothing of the kind: nothing is decided, it is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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


class Registry:
    """Writers' schemas by id.  Learnt by one thread at a time."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        there = urlsplit(url)
        self._shown = f"{there.scheme}://{there.netloc.rpartition('@')[2]}{there.path}".rstrip("/")
        """Without a password."""
        self._known: dict[int, WriterSchema] = {}
        self._refused: dict[int, str] = {}
        """What the registry said it hasn't, or hasn't for us: until it is asked again."""
        self._unanswered: frozenset[int] = frozenset()

    def schema(self, schema_id: int) -> WriterSchema:
        """Asks, where it was not asked yet.  Raises BadMessage, RegistryUnavailable."""
        if schema_id not in self._known and schema_id not in self._refused:
            self.learn([schema_id])
        if (why := self._refused.get(schema_id)) is not None:
            raise BadMessage(Fault.UNKNOWN_SCHEMA, f"schema {schema_id} {why} (registry {self._shown})")
        return self._known[schema_id]

    def unknown(self, schema_ids: Iterable[int | None]) -> set[int]:
        """Those that must be asked for: also those that it had not when it was asked before."""
        return {one for one in schema_ids if one is not None and one not in self._known}

    def learn(self, schema_ids: Iterable[int]) -> None:
        """Ask for these.  What it refused before is forgotten.  Raises RegistryUnavailable where it doesn't answer them all."""
        self._refused.clear()
        self._unanswered = frozenset(schema_ids)
        first, *others = self._unanswered
        self._ask(first)  # alone: where nobody answers, that is said once
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            try:
                list(threads.map(self._ask, others))
            except RegistryUnavailable:
                threads.shutdown(cancel_futures=True)
                raise
        self._unanswered = frozenset()

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
            raise self._away(f"does not answer ({error or type(error).__name__})") from error
        try:
            said: Any = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise self._away(f"answers {answer.status_code} and no JSON: is that the address of a registry's API?")
        if answer.status_code == 404 and said.get("error_code") in _NO_SUCH_SCHEMA:
            self._refused[schema_id] = "is not registered"
        elif answer.status_code != 200 or not isinstance(said.get("schema"), str):
            raise self._away(f"answers {answer.status_code}: {said.get('message', 'without a schema')!s:.200}")
        elif (kind := said.get("schemaType", "AVRO")) != "AVRO":
            self._refused[schema_id] = f"is {kind}, and not Avro"
        elif said.get("references"):
            self._refused[schema_id] = "refers to others, which are not followed: it must be registered whole"
        else:
            try:
                self._known[schema_id] = WriterSchema(schema_id, said["schema"])
            except Unusable as error:
                self._refused[schema_id] = str(error)

    def _away(self, why: str) -> RegistryUnavailable:
        return RegistryUnavailable(f"the schema registry at {self._shown} {why}")
