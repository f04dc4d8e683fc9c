"""The topic `models`: which models judge, read and changed.  Nobody changes what somebody else has changed meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Producer

from features.log import PATIENCE, Log
from features.settings import Settings
from schemas.deployment import Deployment, Serving, decode_deployment, decode_serving
from schemas.errors import BadMessage, LogUnavailable
from schemas.topics import MODELS
from schemas.wire import encode

Update = Callable[[Deployment | None], Deployment]

_SECONDS = 10.0
"""For one call to Kafka; an unfinished change is aborted by the broker after as long."""
_OVERTAKEN = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)


class Deployments:
    """What is deployed of one registered model."""

    def __init__(self, settings: Settings, model: str) -> None:
        self.settings = settings
        self.model = model

    def latest(self) -> Deployment | None:
        """What judges now; None: nothing was ever deployed.  Raises LogUnavailable."""
        found = None
        for key, value in self._all():
            if key == self.model.encode():
                with suppress(BadMessage):  # somebody else wrote there
                    found = decode_deployment(value)
        return found

    def serving(self) -> list[Serving]:
        """What each worker that runs, or was killed, said last, by name.  Raises LogUnavailable."""
        found: dict[bytes, Serving] = {}
        for key, value in self._all():
            if key.startswith(f"{self.model}/".encode()):
                found.pop(key, None)
                if value is not None:
                    with suppress(BadMessage):
                        found[key] = decode_serving(value)
        return [found[key] for key in sorted(found)]

    def change(self, update: Update, *, within: float = PATIENCE) -> Deployment:
        """Write what `update` makes of the latest deployment; it is asked again where somebody was faster.

        Whatever `update` raises is raised, and nothing is changed.  Raises LogUnavailable, `within` so many seconds or a few
        more.
        """
        deadline = time.monotonic() + within
        while True:
            producer = Producer(
                self.settings.client(
                    # One for all who write: each that begins shuts out those who began before.
                    transactional_id=f"{self.settings.topic(MODELS)}-{self.model}",
                    transaction_timeout_ms=round(_SECONDS * 1_000),
                    acks="all",
                    linger_ms=0,
                )
                | {"error_cb": lambda _: None}
            )
            try:
                producer.init_transactions(min(_SECONDS, within))
                after = update(self.latest())
                producer.begin_transaction()
                producer.produce(self.settings.topic(MODELS), value=encode(after), key=self.model.encode(), partition=0)
                producer.commit_transaction(min(_SECONDS, within))
            except KafkaException as exception:
                error = exception.args[0]
                transient = error.code() in _OVERTAKEN or error.retriable() or error.txn_requires_abort()
                if not transient or time.monotonic() > deadline:
                    raise LogUnavailable(f"`models` can't be changed: {error.str()}") from exception
            else:
                return after
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - or two would go on shutting each other out

    def _all(self) -> list[tuple[bytes, bytes | None]]:
        with Log(self.settings) as log:
            low, high = log.bounds(MODELS, 0)
            return [(record.key or b"", record.value) for some in log.read(MODELS, 0, low, high) for record in some]
