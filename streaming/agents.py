"""The story of a batch: read, recall, describe, decide, tell, remember."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import numpy as np

from features.accepting import Record, Rules
from features.describing import Batch, Described, Describer, Needed, Rejected, needed, read
from features.log import record_of
from features.position import Offsets, Position
from features.profile import DamagedProfiles
from schemas.avro_wire import schema_id
from schemas.dead_letter import ATTEMPT, DeadLetter, cut_detail
from schemas.errors import LEFT_OUT, Fault, PartitionParked, PositionMoved, StoreUnavailable, TryAgain
from schemas.label import Label, LabelSource
from schemas.marks import Landmark, Marks, Trace
from schemas.partitioning import partition_of
from schemas.topics import ACTIVITY, ALERTS, DEAD_LETTERS, INPUTS, VERDICTS
from schemas.transaction import Transaction
from schemas.verdict import Alert, Flag, Folded
from schemas.wire import encode
from streaming.culprits import NO_BUGS, Allowance, Item, as_a_whole, find
from streaming.damage import Damage
from streaming.guard import Broken, Guard, Limits
from streaming.intake import Polled
from streaming.memory import Memory, Recalled
from streaming.metrics import Metrics
from streaming.outbox import LARGEST_ALERT, Aborted, Outbox, Place, Said, Told, TooLarge
from streaming.partition import Part
from streaming.scoring import Decisions, Panel
from streaming.settings import WorkerSettings

log = logging.getLogger(__name__)

_NAMES = tuple(topic.name for topic in INPUTS)
_ACTIVITY = INPUTS.index(ACTIVITY)
_HEAD = 1024
"""Bytes of a message too large for `dead-letters` that are kept of it."""


@dataclass
class _Out:
    """What of a batch is told otherwise than as it came."""

    left: dict[Place, tuple[Item, Fault, str]] = field(default_factory=dict)
    """Messages that are dead-lettered and left out of every fold, and why."""
    shorter: dict[tuple[str, Place], int] = field(default_factory=dict)
    """By output topic and message: how much shorter it is told."""

    def bugs(self, found: Iterable[Item]) -> None:
        """Leave these out."""
        for item in found:
            self.left[_place(item)] = (item, Fault.BUG, "the scorer failed on it; its log has the trace")


class Desk:
    """Where a batch is settled, from what was polled to what is remembered."""

    def __init__(
        self,
        settings: WorkerSettings,
        rules: Rules,
        memory: Memory,
        outbox: Outbox,
        metrics: Metrics,
        send_back: Callable[[str, Broken], None],
        drop: Callable[[str], None],
    ) -> None:
        """`send_back` is told of a bundle on trial that has broken a limit, `drop` of one beside it that failed.

        They hear it again and again, until another panel is served.
        """
        self.settings = settings
        self.memory = memory
        self.outbox = outbox
        self.metrics = metrics
        self.rules = rules
        self.describer = Describer(self.rules)
        self.guard = Guard(
            Limits(
                window=settings.guard_window,
                least=settings.guard_least,
                alerts=settings.guard_alerts,
                drift=settings.guard_drift,
                seconds=settings.guard_seconds,
            )
        )
        self.allowance = Allowance(settings.bug_share)
        self.panel: Panel | None = None
        """Who judges from the next batch on."""
        self.busy = False
        self._send_back, self._drop = send_back, drop
        self._damage = Damage()
        self._stages: dict[str, float] = {}

    async def settle(self, polled: Polled) -> None:
        """Take a batch to its end; whatever happens, the intake hears of it."""
        if not polled.claim():
            return
        self.busy = True
        doubt: str | None = "the batch was given up"
        parked: PartitionParked | None = None
        try:
            await self._settle(polled)
            doubt = None
        except PartitionParked as error:
            doubt, parked = None, error
        except (PositionMoved, Aborted) as error:
            doubt = str(error)
        except TryAgain as error:
            if isinstance(error, StoreUnavailable):
                self.metrics.redis_errors.inc()
            doubt = str(error)
        except Exception as error:  # what can't be pinned on a message costs a partition, not the worker
            log.exception("a batch failed")
            doubt, parked = None, as_a_whole(error)
        finally:
            self.busy = False
            polled.settle(doubt, parked)

    async def _settle(self, polled: Polled) -> None:
        self._stages = {}
        assert self.panel is not None
        out = _Out()
        with self._stage("read"):
            items, after = self._sort(polled)
            await self._learn_schemas(items)
            try:
                batch, need = self._read(items)
            except NO_BUGS:
                raise
            except Exception as error:  # a bug of ours: the message that shows it is found, and the others go on
                out.bugs(find(items, self._read, error, self.allowance))
                batch, need = self._read(items, out)
        with self._stage("recall"):
            recalled = await self.memory.recall(need, polled.parts)
        decide = partial(self._decide, self.panel, recalled=(need, recalled), after=after, polled=polled)
        try:
            decided = decide(batch, need, out)
        except NO_BUGS:
            raise
        except Exception as error:
            readable = [item for item in items if _place(item) not in out.left]
            out.bugs(find(readable, lambda some: decide(*self._read(some), out), error, self.allowance))
            batch, need = self._read(items, out)
            decided = decide(batch, need, out)
        while True:
            described, decisions, said = decided
            marks = self._marks(polled, described)
            told = self._told(items, after, marks, polled)
            if not told:
                break
            try:
                with self._stage("tell"):
                    await self.outbox.tell(said, told, polled.group)
            except TooLarge as error:
                self._make_smaller(error, items, out)
                batch, need = self._read(items, out)
                decided = decide(batch, need, out)
            else:
                for number, mark in marks.items():
                    polled.parts[number].marks = mark
                for one in told:
                    polled.parts[one.partition].anew = False
                break
        self._note(items, batch, described, decisions)
        began = time.perf_counter()
        await self.memory.remember(described, need, polled.parts, after)
        self.metrics.stages.observe(np.array([time.perf_counter() - began]), "remember")

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - began

    def _sort(self, polled: Polled) -> tuple[list[Item], dict[int, Position]]:
        """The records that are new to the profiles, and how far along the log they bring each number."""
        items: list[Item] = []
        after: dict[int, list[int]] = {}
        last: dict[int, dict[int, Record]] = {}
        told: set[int] = set()
        for topic, message in polled.messages:
            part = polled.parts.get(message.partition() or 0)
            if part is None:
                continue
            record = record_of(message, part.position.topics[topic])
            upto = after.get(record.partition)
            if upto is None:
                upto = after[record.partition] = list(part.position.next)
            if record.offset < upto[topic]:
                continue  # folded before
            upto[topic] = record.offset + 1
            last.setdefault(record.partition, {})[topic] = record
            if (topic, record.offset) not in part.skipped:
                is_new = record.offset >= part.until[topic]
                items.append((topic, record, is_new))
                if is_new:
                    told.add(record.partition)
        moved: dict[int, Position] = {}
        for number, upto in after.items():
            landmarks = {topic: record.landmark() for topic, record in last.get(number, {}).items()}
            moved[number] = polled.parts[number].position.moved(Offsets(*upto), landmarks)
            if number in told:  # with this batch's offsets committed, what it was decided against is over
                moved[number] = moved[number]._replace(resumption=None)
        return items, moved

    async def _learn_schemas(self, items: list[Item]) -> None:
        """Ask the registry, beside the loop, for what it was not asked yet.  Raises RegistryUnavailable."""
        writers = self.rules.writers
        if asked := writers.unknown(schema_id(record.value) for topic, record, _ in items if topic != _ACTIVITY):
            await asyncio.get_running_loop().run_in_executor(None, writers.learn, asked)

    def _make_smaller(self, error: TooLarge, items: list[Item], out: _Out) -> None:
        """What Kafka doesn't take is told shorter; where that can't be, its message is left out.  Each time something is."""
        topic = self.settings.topic
        for one in error.said:
            assert one.source is not None
            index, number, offset = one.source
            where = f"{_NAMES[index]} [{number}] at offset {offset}"
            level = out.shorter.get((one.topic, one.source), 0)
            if level < {topic(ALERTS): len(_SHORTER) - 1, topic(DEAD_LETTERS): 1}.get(one.topic, 0):
                log.error("what is to be said of %s on %s is too large: it is told shorter", where, one.topic)
                out.shorter[one.topic, one.source] = level + 1
                continue
            found = next((item for item in items if _place(item) == one.source and item[2]), None)
            if found is None or one.topic == topic(DEAD_LETTERS) or one.source in out.left:
                raise PartitionParked(
                    f"partition {number}: what is to be said of {where} is larger than {one.topic} takes ({error}); "
                    "raise its max.message.bytes to what schemas/topics.py has",
                    partition=number,
                )
            log.error("what is to be said of %s on %s is too large: it is dead-lettered", where, one.topic)
            out.left[one.source] = (
                found,
                Fault.TOO_LARGE,
                f"what is to be said of it is larger than {one.topic} takes",
            )
            out.shorter[topic(DEAD_LETTERS), one.source] = 1

    def _read(self, items: list[Item], out: _Out | None = None) -> tuple[Batch, Needed]:
        left = {} if out is None else out.left
        by_topic: tuple[list[tuple[Record, bool]], ...] = ([], [], [])
        for item in items:
            if not left or _place(item) not in left:
                topic, record, told = item
                by_topic[topic].append((record, told))
        batch = read(self.rules, *by_topic)
        batch.rejected += [
            Rejected(_NAMES[topic], record, fault, detail) for (topic, record, _), fault, detail in left.values()
        ]
        return batch, needed(batch, self.rules.partitions)

    def _decide(
        self,
        panel: Panel,
        batch: Batch,
        need: Needed,
        out: _Out,
        *,
        recalled: tuple[Needed, Recalled],
        after: dict[int, Position],
        polled: Polled,
    ) -> tuple[Described, Decisions, list[Said]]:
        """Of this batch, or of a part of the one that was `recalled` for."""
        profiles = _only(need, *recalled)
        with self._stage("describe"):
            described = self._described(batch, need, profiles, polled)
        with self._stage("score"):
            folded = {
                number: Folded(position.next.labels, labels_topic_id=position.topics.labels)
                for number, position in after.items()
            }
            decisions = panel.decide(described, folded, datetime.now(UTC))
        with self._stage("judge"):
            return described, decisions, self._said(described, decisions, polled, out)

    def _described(self, batch: Batch, need: Needed, profiles: Recalled, polled: Polled) -> Described:
        """Raises PartitionParked where a profile of ours is damaged."""
        unknown = profiles.unknown
        while True:
            try:
                return self.describer.describe(batch, need, profiles.accounts, profiles.counterparties, unknown)
            except DamagedProfiles as damaged:
                unknown |= self._damage.unknown(damaged, batch, need, polled.parts)

    def _marks(self, polled: Polled, described: Described) -> dict[int, Marks]:
        marks = {number: part.marks for number, part in polled.parts.items()}
        left_out = Counter(record.partition for _, record, fault, _ in described.rejected if fault in LEFT_OUT)
        judged = {taken.record.partition: taken.record.offset for taken in described.transactions}
        for number in left_out.keys() | judged.keys():
            mark = marks[number]
            marks[number] = msgspec.structs.replace(
                mark, left_out=mark.left_out + left_out[number], verdict=judged.get(number, mark.verdict)
            )
        return marks

    def _said(self, described: Described, decisions: Decisions, polled: Polled, out: _Out) -> list[Said]:
        topic = self.settings.topic
        verdicts, alerts, activity = topic(VERDICTS), topic(ALERTS), topic(ACTIVITY)
        said = [
            Said(verdicts, verdict.account_id.encode(), encode(verdict), place[1], source=place)
            for verdict in decisions.verdicts
            for place in [(0, verdict.source.partition, verdict.source.offset)]
        ]
        said += [
            Said(alerts, alert.verdict.account_id.encode(), value, place[1], source=place)
            for alert in decisions.alerts
            for place in [(0, alert.verdict.source.partition, alert.verdict.source.offset)]
            for value in [_fitting(alert, out.shorter.get((alerts, place), 0))]
        ]
        said += [
            Said(
                activity,
                one.counterparty_id.encode(),
                encode(one),
                source=(0 if one.known_at is None else 1, one.source.partition, one.source.offset),
            )
            for one in described.activity
        ]
        if described.rejected:
            attempts = _attempts(polled, described.rejected)
            said += [self._dead_letter(rejected, attempts, out) for rejected in described.rejected]
        return said

    def _dead_letter(self, rejected: Rejected, attempts: dict[Place, int], out: _Out) -> Said:
        name, record, fault, detail = rejected
        value, key = record.value, record.key
        letters, place = self.settings.topic(DEAD_LETTERS), (_NAMES.index(name), record.partition, record.offset)
        too_large = len(value or b"") + len(key or b"") > self.settings.dead_letter_bytes
        if too_large or (letters, place) in out.shorter:
            whole, value, key = value or b"", (value or b"")[:_HEAD], (key or b"")[:_HEAD]
            detail = cut_detail(detail, whole, len(value))
        attempt = attempts.get(place, 1)
        input_topic = self.settings.topic(INPUTS[place[0]])
        letter = DeadLetter(
            fault=fault, detail=detail, topic=input_topic, partition=record.partition, offset=record.offset, attempt=attempt,
            at=datetime.now(UTC), topic_id=record.topic_id, timestamp=record.timestamp,
        )  # fmt: skip
        return Said(letters, key, value, record.partition, letter.headers(), place)

    def _told(
        self, items: list[Item], after: dict[int, Position], marks: dict[int, Marks], polled: Polled
    ) -> list[Told]:
        """The offsets to commit: of topics and numbers with something that was not told before."""
        moved = {(topic, record.partition) for topic, record, told in items if told}
        moved |= {(0, number) for number in after if marks[number] != polled.parts[number].marks}
        for _, number in list(moved):
            if polled.parts[number].anew:
                moved |= {(topic, number) for topic in range(len(INPUTS))}
        return [
            self._commit(topic, polled.parts[number], after[number], marks[number]) for topic, number in sorted(moved)
        ]

    def _commit(self, topic: int, part: Part, after: Position, marks: Marks) -> Told:
        # A mark may have to be committed while the transactions are still folded: never back behind what was told.
        further = after.next[topic] >= part.until[topic]
        last: Landmark | None = (after.last if further else part.told_last)[topic]
        topic_id = after.topics[topic]
        trace = msgspec.structs.replace(marks, topic_id=topic_id, last=last) if topic == 0 else Trace(topic_id, last)
        offset = max(after.next[topic], part.until[topic])
        return Told(self.settings.topic(INPUTS[topic]), part.number, offset, trace.text())

    def _note(self, items: list[Item], batch: Batch, described: Described, decisions: Decisions) -> None:
        """Metrics and the log: only now, for only now is it true."""
        m = self.metrics
        now = time.time()
        for outcome, count in Counter([verdict.outcome for verdict in decisions.verdicts]).items():
            m.transactions.labels(outcome.value).inc(count)
        if described.transactions:
            seen = np.array([taken.record.timestamp for taken in described.transactions], np.float64) / 1e3
            m.seen_to_told.observe(np.maximum(now - seen, 0))
            m.occurred_to_told.observe(np.maximum(now - described.occurred / 1e6, 0))
            m.late.inc(int(described.late.sum()))
            m.degraded.inc(int(described.degraded.sum()))
        if decisions.trial is not None:
            self._note_trial(decisions)
        m.pending.inc(sum(alert.reasons == "pending" for alert in decisions.alerts))
        m.duplicates.inc(described.duplicates)
        m.labels.inc(len(batch.labels))
        m.folded.inc(sum(not told for _, _, told in items))
        for rejected in described.rejected:
            m.dead_letters.labels(rejected.fault.value).inc()
        self.allowance.used(
            told=(record.partition for _, record, told in items if told),
            bugs=(rejected.record.partition for rejected in described.rejected if rejected.fault is Fault.BUG),
        )
        m.batch_sizes.observe(np.array([len(items)], np.float64))
        for stage, seconds in self._stages.items():
            m.stages.observe(np.array([seconds]), stage)
        log.debug(
            "batch told: %d messages, %d verdicts, %d alerts, %d dead letters, %.1f ms",
            len(items), len(decisions.verdicts), len(decisions.alerts), len(described.rejected),
            1e3 * sum(self._stages.values()),
        )  # fmt: skip

    def _note_trial(self, decisions: Decisions) -> None:
        trial, m = decisions.trial, self.metrics
        assert trial is not None
        by_challenger = [verdict.outcome for verdict in decisions.verdicts if Flag.CANARY in verdict.flags]
        for outcome, count in Counter(by_challenger).items():
            m.canary.labels(outcome.value).inc(count)
        if trial.failed is not None:
            m.bundle_failures.labels(trial.failed).inc()
        before = self.guard.figures
        broken = self.guard.look(trial)
        if self.guard.figures is not before:  # once a second, not with each batch
            for figure, value in self.guard.figures.items():
                m.trial.labels(figure).set(value)
        if broken is not None:
            self._send_back(trial.candidate, broken)
        elif trial.failed is not None and trial.failed == trial.shadow:
            self._drop(trial.failed)


def _place(item: Item) -> Place:
    topic, record, _ = item
    return topic, record.partition, record.offset


def _without_attributes(alert: Alert) -> Alert:
    return msgspec.structs.replace(alert, transaction=msgspec.structs.replace(alert.transaction, attributes={}))


def _without_words(alert: Alert) -> Alert:
    """Without attributes, and with the strongest reason only."""
    shorter = _without_attributes(alert)
    return shorter if shorter.reasons == "pending" else msgspec.structs.replace(shorter, reasons=shorter.reasons[:1])


_SHORTER: tuple[Callable[[Alert], Alert], ...] = (lambda alert: alert, _without_attributes, _without_words)
"""What `alerts` is told: all of it, and what is left where that is too large."""


def _fitting(alert: Alert, level: int) -> bytes:
    """What `alerts` takes: without the transaction's attributes where they are too large (9e15 is written as 18 bytes)."""
    value = encode(_SHORTER[level](alert))
    return value if level or len(value) <= LARGEST_ALERT else encode(_without_attributes(alert))


def _attempts(polled: Polled, rejected: list[Rejected]) -> dict[Place, int]:
    """Of messages that `dead-letters resend` has sent again, by topic, partition and offset: the how manieth time it is."""
    asked = {(_NAMES.index(one.topic), one.record.partition, one.record.offset) for one in rejected}
    found: dict[Place, int] = {}
    for topic, message in polled.messages:
        place = topic, message.partition() or 0, message.offset() or 0
        if place not in asked:
            continue
        headers: Any = ()
        with suppress(Exception):  # a name that isn't UTF-8: the client can't tell it, and nothing depends on it
            headers = message.headers()
        value = dict(headers or ()).get(ATTEMPT)
        if isinstance(value, bytes) and value.isdigit():
            found[place] = int(value[:6])
    return found


def _only(need: Needed, was: Needed, recalled: Recalled) -> Recalled:
    """What was recalled, for fewer messages."""
    if need is was:
        return recalled
    return Recalled(
        [recalled.accounts[was.accounts[name]] for name in need.accounts],
        [recalled.counterparties[was.counterparties[name]] for name in need.counterparties],
        recalled.unknown,
    )


def warm_up(rules: Rules, panel: Panel) -> None:
    """Take one transaction through everything that is compiled or loaded at its first use."""
    at = datetime(2020, 1, 1, tzinfo=UTC)
    transaction = Transaction(
        transaction_id="warm-up",
        account_id="warm-up",
        counterparty_id="warm-up",
        amount=1,
        currency=rules.rates.currency,
        occurred_at=at,
    )
    label = Label(
        label_id="warm-up", transaction_id="warm-up", account_id="warm-up", counterparty_id="warm-up", occurred_at=at, amount=1,
        is_fraud=True, known_at=at, source=LabelSource.SIMULATION,
    )  # fmt: skip
    home = partition_of(b"warm-up", rules.partitions)
    key = b"warm-up"
    describer = Describer(rules)
    blobs: list[bytes | None] = [None]
    for offset in range(2):
        batch = read(
            rules,
            [(Record(home, offset, 1_600_000_000_000, key, encode(transaction)), True)],
            [(Record(home, offset, 1_600_000_000_000, key, encode(label)), True)],
        )
        described = describer.describe(batch, needed(batch, rules.partitions), blobs, [None])
        panel.decide(described, {home: Folded(0)}, at)
        blobs = list(described.accounts.values())
