"""Follows the topic `models`: what is to judge is fetched, loaded and tried here, and handed over between two batches.

A bundle that isn't whole, isn't for this catalogue or doesn't answer as it should never gets further than this thread:
the worker says why, and goes on with what it has.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit
from urllib.request import Request, urlopen

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from features.accepting import Rules
from features.catalogue import DIGEST, FEATURES
from features.collecting import spare_the_collector
from features.deployments import Deployments
from schemas.bundle import BUNDLE_TAG, Thresholds, make_current
from schemas.deployment import (
    ANNOUNCED_EVERY,
    PROBATION,
    Deployment,
    Model,
    Refusal,
    Role,
    Serving,
    decode_deployment,
    promoted,
    rolled_back,
)
from schemas.errors import BadMessage, LogUnavailable, UnusableModel
from schemas.topics import MODELS
from schemas.wire import encode
from streaming.agents import warm_up
from streaming.budget import Budget
from streaming.bundle import LoadedBundle, resolve
from streaming.fetching import BeingFetched, Fetcher, require_name
from streaming.guard import Broken
from streaming.leaving import BROKEN, leave
from streaming.loading import Loader, try_apart
from streaming.metrics import Metrics
from streaming.reasons import Explainer
from streaming.scoring import Panel, Scorer
from streaming.settings import WorkerSettings

log = logging.getLogger(__name__)

_AGAIN_AFTER = 1.0
"""Seconds after which what could not be had is looked for once more, where there is nothing else to judge by."""
_POLLED_EVERY = 0.1
"""Seconds between two looks at a download."""
_REGISTRY_WITHIN = 2.0
_SAY_WITHIN = 5.0
"""Seconds for one attempt to change a deployment: `models` must be read meanwhile."""
_NEVER = datetime.min.replace(tzinfo=UTC)
_KEPT_BESIDE = 1
"""Scorers that are kept loaded beside those in use: the last one may come back."""


class Following(threading.Thread):
    """Every call about models: to `models`, to the registry, to the bundles' folder."""

    def __init__(
        self, settings: WorkerSettings, rules: Rules, metrics: Metrics, serve: Callable[[Panel], None]
    ) -> None:
        """`serve` is called on this thread, with what is to judge from the next batch on."""
        super().__init__(daemon=True, name="following")
        self.settings = settings
        self.metrics = metrics
        self.waits_for: str | None = "not looked for yet"
        """Why there is nothing to judge by; None: there is."""
        self._rules, self._serve = rules, serve
        self._halt = threading.Event()
        self._path = Path(settings.bundle)
        self._folder = self._path.parent.resolve()
        self._fetcher = Fetcher(settings, self._folder)
        self._loader: Loader[Scorer] = Loader(
            lambda folder: ready_scorer(settings, rules, folder),
            self._fetcher.fetch,
            lambda folder: try_apart(folder, {"FRAUD_CURRENCY": settings.currency}),
            self._folder / f".loading-{settings.topic_prefix}{settings.group}-{settings.slot}",
        )
        self._deployments = Deployments(settings, settings.mlflow_model)
        self._budget = Budget(settings.reasons_share)
        self._name = f"{settings.group}-{settings.slot}"
        self._deployment: Deployment | None = None
        self._panel: Panel | None = None
        self._scorers: dict[str, Scorer] = {}
        self._refused: dict[str, tuple[str, float]] = {}
        """By name: why, and when to look once more."""
        self._banned: set[str] = set()
        """What is not asked here any more, until the deployment changes: it broke a limit, or failed."""
        self._read = False
        """Whether all that `models` says was read once."""
        self._changed = True
        self._look_again = math.inf
        self._reported: queue.SimpleQueue[tuple[str, Broken | None]] = queue.SimpleQueue()
        self._to_send_back: tuple[str, Broken] | None = None
        self._say_again = -math.inf
        """When to try once more to say that something is sent back."""
        self._said: Serving | None = None
        self._announced_at = -math.inf
        self._polled_at = time.monotonic()
        self._alias: str | None = None
        """Which bundle it named when it last agreed with `models`, or was looked at first."""
        self._alias_moved: str | None = None
        """Which other one it names since; it is looked at twice, for a promotion sets it a moment after it is said."""

    def send_back(self, bundle: str, broken: Broken) -> None:
        """Ask it no more, and roll it back; from any thread, as often as one likes."""
        self._reported.put((bundle, broken))

    def drop(self, bundle: str) -> None:
        """Ask it no more: it only scored along, and failed; from any thread, as often as one likes."""
        self._reported.put((bundle, None))

    def halt(self) -> None:
        """End the thread."""
        self._halt.set()

    def run(self) -> None:
        """The thread."""
        try:
            try:
                self._connect()
            except KafkaException as error:
                # A setting of Kafka's client that is none: the takeover names it, and ends the worker.
                log.debug("no client: %s", error)
                return
            # librdkafka looks only once a second for the leaders of topics that it doesn't know yet.
            with suppress(KafkaException):  # away: it goes on looking by itself
                self._consumer.list_topics(self.settings.topic(MODELS), timeout=2.0)
            self._consumer.assign([TopicPartition(self.settings.topic(MODELS), 0, OFFSET_BEGINNING)])
            self.waits_for = f"what {self.settings.topic(MODELS)} says"
            while not self._halt.is_set():
                self._turn()
            self._fetcher.close()
            self._consumer.close()
            self._say_goodbye()
        except BaseException as error:  # a thread that dies in silence would leave a worker that no model reaches
            log.exception("following the models failed")
            leave(BROKEN, f"following the models failed: {error!r}")

    def _connect(self) -> None:
        self._consumer = Consumer(
            self.settings.client(
                group_id=f"{self._name}-models",  # of nobody: it commits nothing
                enable_auto_commit=False,
                isolation_level="read_committed",
                enable_partition_eof=True,
            )
            | {"error_cb": lambda _: None}
        )
        self._producer = Producer(
            self.settings.client(enable_idempotence=True, acks="all", linger_ms=0) | {"error_cb": lambda _: None}
        )

    def _turn(self) -> None:
        message = self._consumer.poll(0.2)
        if message is not None and not self._is_the_end(message):
            return  # what has been deployed meanwhile is of no interest
        now = time.monotonic()
        if (message is not None and self._changed) or now >= self._look_again:
            self._changed = False
            self._look_again = math.inf
            self._take_up()
        while not self._reported.empty():
            self._ban(*self._reported.get())
        if self._to_send_back is not None and now >= self._say_again:
            self._roll_back(*self._to_send_back)
        self._fetcher.tend()
        if self._panel is not None and now - self._announced_at >= ANNOUNCED_EVERY:
            self._announce()
        if self._read and 0 < self.settings.mlflow_poll <= now - self._polled_at:
            self._polled_at = now
            self._look_at_alias()

    def _is_the_end(self, message: Message) -> bool:
        """Whether all was read that was there; what is said of our model is noted."""
        error = message.error()
        if error is not None:
            self._read |= error.code() == KafkaError._PARTITION_EOF
            return bool(error.code() == KafkaError._PARTITION_EOF)
        if message.key() == self.settings.mlflow_model.encode():
            try:
                self._deployment = decode_deployment(message.value())
            except BadMessage as problem:
                log.error("%s at %s is no deployment: %s", message.topic(), message.offset(), problem)
            else:
                self._changed = True
                self._banned.clear()
                self._to_send_back = None
        return False

    # What is to judge.

    def _take_up(self) -> None:
        deployment = self._deployment
        champion = self._champion(deployment)
        if champion is None:
            return
        model, role, share = None, Role.CHALLENGER, 0.0
        if deployment is not None and champion.bundle.name == deployment.champion.bundle:
            model, role, share = self._beside(deployment)
        shadow = None if model is None or model.bundle in self._banned else self._scorer(model.bundle)
        before = self._panel
        if before is None or (before.champion, before.shadow, before.role, before.share) != (
            champion,
            shadow,
            role,
            share,
        ):
            self._hand_over(
                Panel(
                    champion=champion,
                    shadow=shadow,
                    role=role,
                    share=share,
                    with_vectors=self.settings.vectors,
                    budget=self._budget,
                )
            )
        self._note()

    def _champion(self, deployment: Deployment | None) -> Scorer | None:
        """Who is to judge; None where nothing is to change."""
        if deployment is not None:
            deployed = [deployment.champion, *([deployment.former] if deployment.former else [])]
            names = [model.bundle for model in deployed if model.bundle not in self._banned]
            if names and (found := self._scorer(names[0])) is not None:
                return found
            if self._panel is not None:
                return self._panel.champion  # the one that it has, and no stranger beside it
            if len(names) > 1 and (found := self._scorer(names[1])) is not None:
                return found
        elif self._panel is not None:
            return None
        try:  # the last one that was good here, or the first of all
            folder = resolve(self._path)
        except UnusableModel as error:
            self._wait(str(error))
            return None
        return self._scorer(folder.name, folder)

    def _ban(self, bundle: str, broken: Broken | None) -> None:
        """At once here; everybody else hears of it by `models`."""
        if bundle in self._banned or self._deployment is None or bundle not in _names(self._deployment):
            return
        self._banned.add(bundle)
        if broken is not None:
            log.error("bundle %s is sent back: %s", bundle, broken.why)
            self._to_send_back = (bundle, broken)
        else:
            log.error("bundle %s scores along no more: it failed", bundle)
        self._take_up()

    def _beside(self, deployment: Deployment) -> tuple[Model | None, Role, float]:
        """Who scores along."""
        if deployment.challenger is not None:
            return deployment.challenger, Role.CHALLENGER, deployment.share
        if deployment.former is None or deployment.probation_until is None:
            return None, Role.CHALLENGER, 0.0
        left = (deployment.probation_until - datetime.now(UTC)).total_seconds()
        if left <= 0:
            return None, Role.CHALLENGER, 0.0
        self._look_soon(left)
        return deployment.former, Role.FORMER, 0.0

    def _scorer(self, name: str, folder: Path | None = None) -> Scorer | None:
        """Loaded and tried; None where that can't be, which is said."""
        if name in self._scorers:
            self._scorers[name] = self._scorers.pop(name)  # the newest last
            return self._scorers[name]
        said, again_at = self._refused.get(name, ("", 0.0))
        if time.monotonic() >= again_at:
            try:
                scorer = self._loader.ready(name, folder)
            except BeingFetched as patience:
                self.waits_for = str(patience) if self._panel is None else None
                self._look_soon(_POLLED_EVERY)
                return None
            except UnusableModel as error:
                self._refuse(name, str(error), said)
            else:
                self._refused.pop(name, None)
                self._scorers[name] = scorer
                return scorer
        self._look_soon(self._refused[name][1] - time.monotonic())
        return None

    def _refuse(self, name: str, why: str, said: str) -> None:
        if self._panel is None:
            self._refused[name] = (why, time.monotonic() + _AGAIN_AFTER)
            self._wait(why)
        else:
            self._refused[name] = (why, time.monotonic() + 5 * _AGAIN_AFTER)
            if why != said:
                log.error("bundle %s is not taken up, %s goes on: %s", name, self._panel.champion.bundle.name, why)

    def _wait(self, why: str) -> None:
        if self.waits_for != why:
            log.warning("waiting for a bundle: %s", why)
        self.waits_for = why
        self._look_soon(_AGAIN_AFTER)

    def _look_soon(self, seconds: float) -> None:
        self._look_again = min(self._look_again, time.monotonic() + max(seconds, 0.0))

    def _hand_over(self, panel: Panel) -> None:
        spare_the_collector()
        self._serve(panel)
        before, self._panel = self._panel, panel
        self.waits_for = None
        champion = panel.champion.bundle
        if before is None or before.champion.bundle.name != champion.name:
            self.metrics.swaps.inc()
            log.info("serving bundle %s", champion.name)
            self._point_at(champion.folder)
        if panel.shadow is not None:
            log.info("bundle %s scores along (%s, share %g)", panel.shadow.bundle.name, panel.role, panel.share)
        names = [one.bundle.name for one in (panel.champion, panel.shadow) if one is not None]
        for name in [name for name in self._scorers if name not in names][:-_KEPT_BESIDE]:
            del self._scorers[name]

    def _point_at(self, folder: Path) -> None:
        """What a worker begins with here where `models` can't be asked."""
        if self._path.is_symlink() and self._path.readlink() != Path(folder.name) and folder.parent == self._folder:
            try:
                make_current(folder)
            except OSError as error:
                log.warning("%s still names another bundle than the champion %s: %s", self._path, folder.name, error)

    def _note(self) -> None:
        """In the metrics and on `models`: what this worker serves now."""
        assert self._panel is not None
        m, panel = self.metrics, self._panel
        m.bundle.clear()
        m.bundle.labels(panel.champion.bundle.name, panel.champion.thresholds.digest(), Role.CHAMPION.value).set(1)
        if panel.shadow is not None:
            m.bundle.labels(panel.shadow.bundle.name, panel.shadow.thresholds.digest(), panel.role.value).set(1)
        else:
            m.trial.clear()
        wanted = set() if self._deployment is None else _names(self._deployment)
        self._refused = {name: said for name, said in self._refused.items() if name in wanted}
        m.refused.clear()
        for name in self._refused:
            m.refused.labels(name).set(1)
        m.deployment.set(0 if self._deployment is None else self._deployment.number)
        self._announce()

    def _announce(self) -> None:
        assert self._panel is not None
        panel = self._panel
        serving = Serving(
            worker=self._name,
            catalogue=DIGEST,
            deployment=0 if self._deployment is None else self._deployment.number,
            champion=panel.champion.bundle.name,
            challenger=panel.shadow.bundle.name if panel.shadow is not None and panel.role is Role.CHALLENGER else None,
            refused=tuple(Refusal(bundle=name, why=why) for name, (why, _) in sorted(self._refused.items())),
            at=_NEVER,
        )
        if serving != self._said or time.monotonic() - self._announced_at >= ANNOUNCED_EVERY:
            self._said, self._announced_at = serving, time.monotonic()
            self._publish(encode(msgspec.structs.replace(serving, at=datetime.now(UTC))))

    def _say_goodbye(self) -> None:
        if self._panel is not None:
            self._publish(None)
            self._producer.flush(2.0)

    def _publish(self, value: bytes | None) -> None:
        key = f"{self.settings.mlflow_model}/{self._name}".encode()
        with suppress(BufferError, KafkaException):  # Kafka is away, and what is said next is newer
            self._producer.produce(self.settings.topic(MODELS), value=value, key=key, partition=0)
        self._producer.poll(0)

    # What is changed from here.

    def _roll_back(self, bundle: str, broken: Broken) -> None:
        def update(before: Deployment | None) -> Deployment:
            if before is None:
                raise ValueError("nothing is deployed")
            return rolled_back(before, bundle, at=datetime.now(UTC), by=f"worker {self._name}", why=broken.why)

        try:
            after = self._deployments.change(update, within=_SAY_WITHIN)
        except ValueError as error:  # another worker was faster, or nobody is there to come back
            self._to_send_back = None
            log.warning("bundle %s is not rolled back: %s", bundle, error)
        except LogUnavailable as error:
            self._say_again = time.monotonic() + 5 * _AGAIN_AFTER
            log.warning("bundle %s is asked no more here, which can't be said yet: %s", bundle, error)
        else:
            self._to_send_back = None
            self.metrics.sent_back.labels(bundle, broken.limit).inc()
            log.error("bundle %s is rolled back, %s judges", bundle, after.champion.bundle)

    def _look_at_alias(self) -> None:
        """What somebody sets in the registry by hand is taken up; what it has said all along is not."""
        model = None
        with suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError, HTTPException
        ):  # away, or no such alias: the topic is what counts
            model = self._named_by_alias()
        if model is None or not self._is_bundle(model):
            return
        deployed = self._deployment
        if deployed is not None and (self._alias is None or model.bundle == deployed.champion.bundle):
            self._alias = model.bundle
        if model.bundle == self._alias:
            self._alias_moved = None
        elif self._alias_moved != model.bundle:
            self._alias_moved = model.bundle
        else:
            self._alias, self._alias_moved = model.bundle, None
            self._promote(model, 0 if deployed is None else deployed.number)

    def _is_bundle(self, model: Model) -> bool:
        """Whether the alias names one at all; said once where it doesn't."""
        try:
            require_name(model.bundle)
        except UnusableModel as error:
            if self._alias_moved != model.bundle:
                self._alias_moved = model.bundle
                log.error("the alias champion is not taken up: %s", error)
            return False
        return True

    def _named_by_alias(self) -> Model | None:
        s = self.settings
        if not s.mlflow_uri.startswith("http"):
            return None
        asked = alias_asked_of(s.mlflow_uri, s.mlflow_model, os.environ)
        with urlopen(asked, timeout=_REGISTRY_WITHIN) as answer:  # noqa: S310 - http, as was seen
            version: dict[str, Any] = json.load(answer)["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
        return Model(bundle=str(tags[BUNDLE_TAG]), version=str(version["version"])[:80])

    def _promote(self, model: Model, number: int) -> None:
        now = datetime.now(UTC)
        former = None if self._panel is None else Model(bundle=self._panel.champion.bundle.name)

        def update(before: Deployment | None) -> Deployment:
            if (0 if before is None else before.number) != number:
                raise ValueError("the deployment has changed meanwhile")
            if before is not None and (change := before.sent_back(model.bundle)) is not None:
                raise ValueError(f"{change.by} sent it back: {change.why}")
            return promoted(
                before, model, at=now, by="the registry", why=f"its alias champion was set to version {model.version}",
                former=former, probation_until=now + PROBATION,
            )  # fmt: skip

        try:
            self._deployments.change(update, within=_SAY_WITHIN)
        except (ValueError, LogUnavailable) as error:
            log.warning("the alias champion names bundle %s, which is not promoted: %s", model.bundle, error)


def _names(deployment: Deployment) -> set[str]:
    models = (deployment.champion, deployment.challenger, deployment.former)
    return {model.bundle for model in models if model is not None}


def alias_asked_of(server: str, model: str, environment: Mapping[str, str]) -> Request:
    """What asks this server of MLflow's for the version that the alias `champion` names.

    Who asks is said as MLflow's own client says it: as the address does, or MLflow's variables.
    """
    there = urlsplit(server)
    username, password, token = (
        environment.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    if there.username is not None:
        username, password = unquote(there.username), unquote(there.password or "")
    asked = urlencode({"name": model, "alias": Role.CHAMPION.value})
    path = f"{there.path.rstrip('/')}/api/2.0/mlflow/registered-models/alias"
    place = there.netloc.rpartition("@")[2]
    request = Request(urlunsplit((there.scheme, place, path, asked, "")))  # noqa: S310 - http, as was seen
    if username:
        who = b64encode(f"{username}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {who}")  # nobody else's server is to have it
    elif token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def ready_scorer(settings: WorkerSettings, rules: Rules, folder: Path) -> Scorer:
    """The same, after it has judged one transaction, and given reasons.  May raise anything that a bundle can cause."""
    scorer = load_scorer(settings, folder)
    warm_up(rules, Panel(champion=scorer, with_vectors=settings.vectors, budget=Budget(1.0)))
    return scorer


def load_scorer(settings: WorkerSettings, folder: Path) -> Scorer:
    """The bundle in this folder, ready to judge by the settings' thresholds or its own.  Raises UnusableModel."""
    bundle = LoadedBundle.load(folder, features=FEATURES, catalogue=DIGEST)
    own = bundle.manifest.thresholds
    try:
        thresholds = Thresholds(
            review=own.review if settings.review is None else settings.review,
            decline=own.decline if settings.decline is None else settings.decline,
        )
    except ValueError as error:
        raise UnusableModel(f"FRAUD_REVIEW and FRAUD_DECLINE over bundle {bundle.name}: {error}") from error
    return Scorer(bundle=bundle, explainer=Explainer(bundle, currency=settings.currency), thresholds=thresholds)
