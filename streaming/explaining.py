"""The explainer: completes the alerts whose reasons are `pending`, each once, from the vector and the bundle they name.

It reads `alerts`, and leaves explanations and the offsets it has come to in one Kafka transaction.  Where it begins follows
from both: from what is committed, and from the alert that the last explanation is about, for offsets may be forgotten.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from binascii import a2b_base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry, Counter, Gauge
from xxhash import xxh3_64_hexdigest

from features.log import Log
from features.settings import unknown
from schemas.errors import BadMessage, LogUnavailable, UnusableModel
from schemas.topics import ALERTS, EXPLANATIONS
from schemas.verdict import Alert, Explanation, decode_alert, decode_explanation
from schemas.wire import encode
from streaming.bundle import LoadedBundle
from streaming.fetching import Fetcher, require_name
from streaming.intake import membership
from streaming.leaving import BROKEN, FENCED, SLOW_STOP, leave
from streaming.loading import TRIED_WITHIN, Loader, try_apart
from streaming.logs import write_log
from streaming.outbox import Aborted, Outbox, Said, Told
from streaming.pages import serve
from streaming.reasons import Explainer
from streaming.settings import WorkerSettings
from streaming.slot import BOTH_CAUSES

log = logging.getLogger(__name__)

AT_ONCE = 256
"""Alerts of one transaction at most: a tenth of a second's work."""
AGAIN_AFTER = 1.0
"""Seconds after which what was not there is looked for once more."""
STOP_WITHIN = 9.0
STUCK_AFTER = TRIED_WITHIN + 60.0
"""Seconds without a turn after which it calls itself unhealthy: longer than a bundle may be tried apart, or whoever restarts
it would end each trial, for ever."""
NICENESS = 10
"""Verdicts come first where a worker runs on the same cores."""
GIVE_UP_AFTER = 3_600.0
"""Seconds after which an alert whose bundle can't be had stays without reasons: those behind it have waited for long."""
_MOST_BUNDLES = 4
_MOST_MISSING = 1_000
"""Bundles that are remembered as missing: the oldest go."""

Vector = npt.NDArray[np.float32]


class Pending(NamedTuple):
    """An alert to be completed, and where it lies."""

    number: int
    offset: int
    alert: Alert


class Hopeless(UnusableModel):
    """A bundle that nobody need wait for."""


class Bundles:
    """What is beside the worker's bundle or in the registry, by name; loaded once each, the last few kept."""

    def __init__(
        self, settings: WorkerSettings, clock: Callable[[], float] = time.monotonic, fetcher: Fetcher | None = None
    ) -> None:
        folder = Path(settings.bundle).parent
        self._fetcher = fetcher or Fetcher(settings, folder)
        self._currency = settings.currency
        self._loaded: dict[str, tuple[Explainer, int]] = {}
        self._missing: dict[str, float] = {}
        """By name: since when."""
        self._clock = clock
        self._loader: Loader[tuple[Explainer, int]] = Loader(
            self._load,
            self._fetcher.fetch,
            lambda where: try_apart(where, {"FRAUD_CURRENCY": settings.currency}),
            folder / f".loading-{settings.topic_prefix}{settings.explainers}-{settings.slot}",
            clock,
        )

    def explainer(self, name: str) -> tuple[Explainer, int]:
        """Of this bundle, and how many features its vectors have.

        Raises UnusableModel; Hopeless where no bundle can be called so, or where it was missing for too long.
        """
        if name in self._loaded:
            return self._loaded[name]
        try:
            require_name(name)
        except UnusableModel as error:
            raise Hopeless(str(error)) from error
        try:
            found = self._loader.ready(name)
        except UnusableModel as error:
            since = self._missing.setdefault(name, self._clock())
            while len(self._missing) > _MOST_MISSING:
                self._missing.pop(next(iter(self._missing)))
            if self._clock() - since > GIVE_UP_AFTER:
                raise Hopeless(f"{error}; it was waited for long enough") from error
            raise
        self._missing.pop(name, None)
        if len(self._loaded) == _MOST_BUNDLES:
            self._loaded.pop(next(iter(self._loaded)))
        self._loaded[name] = found
        return found

    def _load(self, folder: Path) -> tuple[Explainer, int]:
        bundle = LoadedBundle.load_any(folder)
        return Explainer(bundle, currency=self._currency), len(bundle.manifest.features)

    def close(self) -> None:
        """End what is being fetched."""
        self._fetcher.close()

    def tend(self) -> None:
        """Put down which downloads are over."""
        self._fetcher.tend()


class Metrics:
    """The explainer's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.explained = Counter("fraud_explained", "Alerts whose reasons were completed.", registry=self.registry)
        self.passed_over = Counter(
            "fraud_unexplainable",
            "Alerts that can't be completed, by no bundle: the log names them.  Anything above zero wants a look.",
            registry=self.registry,
        )
        self.lag = Gauge(
            "fraud_explainer_lag_messages",
            "Messages on `alerts` that were not looked at yet, markers of transactions among them.",
            ["partition"],
            registry=self.registry,
        )


class Explaining(threading.Thread):
    """Every call to Kafka, on one thread: no rebalance can meet a batch in flight."""

    def __init__(self, settings: WorkerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(daemon=True, name="explaining")
        self.settings = settings
        self.metrics = Metrics()
        self.bundles = Bundles(settings, clock)
        self._outbox = Outbox(settings, name=f"{settings.explainers}-{settings.slot}")
        self._halt = threading.Event()
        self._next: dict[int, int] = {}
        """Of the partition numbers that are ours, the next alert to be looked at."""
        self._unplaced: set[int] = set()
        """Numbers that are ours, and of which it isn't known yet where to begin."""
        self._missing: dict[int, str] = {}
        """Why a number's next alert can't be completed yet."""
        self._look_again = 0.0
        self._waits = "Kafka"
        self._turned = time.monotonic()
        self._topic = settings.topic(ALERTS)

    def halt(self) -> None:
        """Finish the batch in hand, and end."""
        self._halt.set()

    def waits_for(self) -> list[str]:
        """Everything that keeps alerts from being completed, in words."""
        return [*([self._waits] if self._waits else []), *sorted(set(self._missing.values()))]

    def trouble(self) -> str | None:
        """Why somebody should start it again."""
        still = time.monotonic() - self._turned
        return f"it stands still for {still:.0f} s" if still > STUCK_AFTER else None

    def run(self) -> None:
        """The thread."""
        try:
            self._outbox.open()
            self._join()
            while not self._halt.is_set():
                self._turn()
                self._turned = time.monotonic()
            self.bundles.close()
            self._consumer.close()
        except BaseException as error:  # a thread that dies in silence would leave a process that does nothing
            log.exception("the explainer failed")
            leave(BROKEN, f"the explainer failed: {error!r}")

    def _join(self) -> None:
        self._consumer = Consumer(
            self.settings.member(
                self.settings.explainers,
                # Nobody waits for these within milliseconds: better many at once.
                fetch_min_bytes=65_536,
                fetch_wait_max_ms=100,
            )
            | {"error_cb": lambda _: None}
        )
        self._waits = "Kafka: an assignment of partitions"
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])
        self._forget({tp.partition for tp in partitions})
        log.info("assigned partitions %s", sorted(self._unplaced))

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._forget(set())
        self._waits = "Kafka: an assignment of partitions"

    def _forget(self, numbers: set[int]) -> None:
        self._next, self._unplaced = {}, numbers
        self._missing.clear()
        self.metrics.lag.clear()

    def _turn(self) -> None:
        if self._unplaced:
            self._place()
        if self._missing and time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + AGAIN_AFTER
            self._consumer.resume([TopicPartition(self._topic, number) for number in self._missing])
        self.bundles.tend()
        messages = self._poll()
        if not messages:
            return
        reached = {message.partition() or 0: (message.offset() or 0) + 1 for message in messages}
        pending = self._read(messages)
        waiting = self._note_missing(pending, reached.keys())
        for one in reversed(waiting):
            reached[one.number] = one.offset
        explained = self._explain([one for one in pending if one.offset < reached[one.number]])
        self._tell(explained, reached)
        if waiting:
            self._go_back()

    def _place(self) -> None:
        """Begin each number where both the committed offset and the last explanation say that all before is done."""
        try:
            with Log(self.settings) as kafka:
                begin = {number: self._begin(kafka, number) for number in self._unplaced}
        except (LogUnavailable, KafkaException) as error:
            self._waits = str(error)
            log.warning("waiting: %s", error)
            return
        self._waits = ""
        self._next, self._unplaced = begin, set()
        self._go_back()
        log.info("explaining from %s on", begin)

    def _go_back(self) -> None:
        """Begin at `_next`; numbers that miss something are paused."""
        here = {number: TopicPartition(self._topic, number, offset) for number, offset in self._next.items()}
        self._consumer.assign(list(here.values()))
        # librdkafka keeps a partition paused across assignments.
        self._consumer.resume([at for number, at in here.items() if number not in self._missing])
        self._consumer.pause([at for number, at in here.items() if number in self._missing])
        self._look_again = time.monotonic() + AGAIN_AFTER

    @staticmethod
    def _begin(kafka: Log, number: int) -> int:
        low, _ = kafka.bounds(ALERTS, number)
        committed = kafka.explained(number)  # first: it waits for transactions that are still open
        last = kafka.last(EXPLANATIONS, number, decode_explanation)
        return max(low, committed, last.alert + 1 if last else 0)

    def _poll(self) -> list[Message]:
        first = self._consumer.poll(0.2)
        messages = [] if first is None else [first, *self._consumer.consume(AT_ONCE - 1, 0)]
        for message in messages:
            error = message.error()
            if error is not None:
                self._heed(error)
        return [
            message
            for message in messages
            if message.error() is None
            # Of an assignment that is gone, or from before a place that was gone back to.
            and self._next.get(message.partition() or 0, 1 << 63) <= (message.offset() or 0)
        ]

    def _heed(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID):
            leave(
                FENCED,
                f"Kafka shut this explainer out: {error.name()}, {error.str()}: {BOTH_CAUSES.replace('worker', 'explainer')}",
            )
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._again(f"a place lies outside {self._topic} ({error.str()})")

    def _again(self, why: str) -> None:
        log.warning("beginning again: %s", why)
        self._consumer.assign([])
        self._forget(set(self._next) | self._unplaced)

    def _read(self, messages: Sequence[Message]) -> list[Pending]:
        found = []
        for message in messages:
            number, offset = message.partition() or 0, message.offset() or 0
            try:
                alert = decode_alert(message.value())
            except Exception as error:  # BadMessage, or what a decoder makes of the oddest: it costs this one
                self._pass_over(number, offset, f"is no alert: {_said(error)}")
                continue
            if alert.reasons == "pending":
                found.append(Pending(number, offset, alert))
        return found

    def _pass_over(self, number: int, offset: int, why: str) -> None:
        self.metrics.passed_over.inc()
        log.error("%s [%d] at %d %s: it stays without reasons", self._topic, number, offset, why)

    def _note_missing(self, pending: Sequence[Pending], looked_at: Iterable[int]) -> list[Pending]:
        """The first alerts of their numbers whose bundle isn't there; all after them wait as well."""
        missing: dict[str, str] = {}
        for name in dict.fromkeys(one.alert.verdict.bundle for one in pending):
            try:
                self.bundles.explainer(name)
            except Hopeless:
                continue
            except UnusableModel as error:
                missing[name] = f"a bundle that alerts name: {error}"
        waiting = [one for one in pending if one.alert.verdict.bundle in missing]
        why = {one.number: missing[one.alert.verdict.bundle] for one in reversed(waiting)}
        for number in looked_at:
            if number not in why:
                self._missing.pop(number, None)
            elif self._missing.get(number) != why[number]:
                self._missing[number] = why[number]
                log.warning("partition %d waits for %s", number, why[number])
        return waiting

    def _explain(self, pending: Sequence[Pending]) -> list[tuple[Pending, Explanation]]:
        by_bundle: defaultdict[str, list[tuple[Pending, Vector]]] = defaultdict(list)
        for one in pending:
            vector = _vector(one.alert)
            try:
                _, features = self.bundles.explainer(one.alert.verdict.bundle)
            except UnusableModel as error:
                self._pass_over(one.number, one.offset, f"can't be explained: {error}")
                continue
            if vector is None or len(vector) != features:
                self._pass_over(one.number, one.offset, "has no vector, or another one than its verdict says")
            else:
                by_bundle[one.alert.verdict.bundle].append((one, vector))
        explained: list[tuple[Pending, Explanation]] = []
        for name, rows in by_bundle.items():
            explainer, _ = self.bundles.explainer(name)
            explained += self._of_one_bundle(name, explainer, rows)
        return sorted(explained, key=lambda each: each[0][:2])

    def _of_one_bundle(
        self, name: str, explainer: Explainer, rows: Sequence[tuple[Pending, Vector]]
    ) -> list[tuple[Pending, Explanation]]:
        try:
            told = explainer.reasons(
                np.stack([vector for _, vector in rows]), [one.alert.transaction for one, _ in rows]
            )
        except Exception as error:  # a bug that one of them shows: the others are explained
            if len(rows) == 1:
                log.exception("an alert shows a bug")
                self._pass_over(rows[0][0].number, rows[0][0].offset, f"can't be explained: {_said(error)}")
                return []
            return [one for row in rows for one in self._of_one_bundle(name, explainer, [row])]
        return [
            (one, Explanation(
                transaction_id=one.alert.verdict.transaction_id, account_id=one.alert.verdict.account_id, bundle=name,
                source=one.alert.verdict.source, alert=one.offset, reasons=reasons,
            ))
            for (one, _), reasons in zip(rows, told, strict=True)
        ]  # fmt: skip

    def _tell(self, explained: Sequence[tuple[Pending, Explanation]], reached: Mapping[int, int]) -> None:
        """Explanations and offsets, all or none."""
        topic = self.settings.topic(EXPLANATIONS)
        said = [Said(topic, what.account_id.encode(), encode(what), one.number) for one, what in explained]
        told = [Told(self._topic, number, at) for number, at in reached.items() if at > self._next[number]]
        group = membership(self._consumer)
        if group is None:
            self._again("Kafka does not call this explainer a member")
            return
        if told:
            try:
                self._outbox.transact(said, told, group)
            except Aborted as error:
                self._again(str(error))
                return
        self._next |= reached
        self.metrics.explained.inc(len(said))
        for number, at in self._next.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
            self.metrics.lag.labels(str(number)).set(max(high - at, 0))


def _vector(alert: Alert) -> Vector | None:
    """What the verdict was judged on, float32 [features]; None where the alert doesn't have it."""
    try:
        raw = a2b_base64(alert.verdict.vector or "", strict_mode=True)
    except ValueError:  # binascii.Error among them; other letters than ASCII are one too
        return None
    if xxh3_64_hexdigest(raw) != alert.verdict.vector_digest or len(raw) % 4:
        return None
    return np.frombuffer(raw, "<f4")


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, BadMessage) else type(error).__name__


def run(settings: WorkerSettings, *, json_log: bool = False) -> None:
    """Run an explainer until it is told to stop (SIGTERM, SIGINT)."""
    write_log(settings.log_level, as_json=json_log)
    for variable in unknown(WorkerSettings, os.environ):
        log.warning("%s", variable)
    os.nice(NICENESS)
    over = threading.Event()
    for asking in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asking, lambda _number, _frame: over.set())
    explaining = Explaining(settings)
    serve(
        settings.web_host,
        settings.explainer_port,
        registry=explaining.metrics.registry,
        waits_for=explaining.waits_for,
        trouble=explaining.trouble,
    )
    explaining.start()
    over.wait()
    explaining.halt()
    explaining.join(STOP_WITHIN)
    if explaining.is_alive():
        leave(SLOW_STOP, f"the stop took longer than {STOP_WITHIN:.0f} s")
