"""What the promise is held to: every transaction one verdict or one dead letter, each what it must be, and the profiles too.

Everything is read from the topics, read committed, and computed again from the log; each verdict says what its profiles had
folded, so that its vector must come out to the bit.
"""

from __future__ import annotations

import multiprocessing
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_hexdigest

from features import kernel
from features.attributes import Encoder
from features.catalogue import OF_THE_COUNTERPARTY
from features.collecting import spare_the_collector
from features.facts import Facts
from features.hashing import partitions_of
from features.log import Log, Loss
from features.position import Keys, Offsets, Position, TopicIds
from features.rebuild import connect
from features.settings import Settings
from loadgen.refolding import (
    Accounts,
    Questions,
    came_late,
    describe_accounts,
    describe_counterparties,
    partition_offset_label,
    read_accounts,
    read_counterparties,
    refold_accounts,
    refold_counterparties,
    source_of,
)
from schemas import installation
from schemas.activity import CounterpartyActivity
from schemas.bundle import digest_of
from schemas.dead_letter import DeadLetter
from schemas.errors import Fault, StoreUnavailable, UnusableModel
from schemas.marks import Marks
from schemas.topics import ACTIVITY, ALERTS, EXPLANATIONS, INPUTS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.verdict import Flag, Folded, Outcome, Source
from schemas.wire import Moment

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

EXAMPLES = 20
"""Of what was found wrong, at most this many are named."""


class Report(msgspec.Struct, kw_only=True):
    """What was found.  All is well where `well` says so."""

    transactions: int = 0
    """Messages on `transactions` that were to be judged: not loaded as history, and committed."""
    pending: int = 0
    """Messages that no worker has come to yet."""
    verdicts: int = 0
    alerts: int = 0
    explanations: int = 0
    """Of alerts that were told without their reasons."""
    awaited: int = 0
    """Alerts without reasons that no explainer has come to yet."""
    outcomes: dict[str, int] = {}
    dead_lettered: dict[str, int] = {}
    """By error; labels among them."""
    activity: int = 0
    """Messages on `counterparty-activity`."""
    duplicates: int = 0
    """Transactions that came again, and got no second verdict."""
    lost: int = 0
    """Messages without the verdict, alert, explanation, dead letter or activity that they should have."""
    doubled: int = 0
    contradicting: int = 0
    """Verdicts, alerts, explanations and dead letters that say something else than the log."""
    vectors_compared: int = 0
    vectors_compared_in_full: int = 0
    """Of the others, whose bundle is not at hand, the catalogue's part was compared, and not the attributes behind it."""
    vectors_different: int = 0
    vectors_by_another_key: int = 0
    """Vectors that were judged on activity by another FRAUD_ID_KEY: they can't be computed again, and aren't compared."""
    vectors_different_if_instant: int = 0
    """Vectors that would be others if labels and activity were known the moment they happen."""
    degraded: int = 0
    """Verdicts flagged so: judged as if they named no counterparty, and compared as such."""
    judged_on_too_little: int = 0
    """Verdicts without that flag that knew less of their counterparty than an earlier one of their partition; contradicting."""
    activity_late: int = 0
    """Verdicts judged before activity that was older than the settling time had reached the counterparty's profile."""
    vectors_not_comparable: int = 0
    """Vectors that were made of records which are no longer in the log: retention took them, or somebody has accepted their
    loss."""
    gone: int = 0
    """Verdicts and activity of records that are no longer in the log, or of another log, as somebody has accepted."""
    accepted: list[str] = []
    """The losses that somebody has accepted, in words."""
    begins_at: dict[str, int] = {}
    """Input topics whose beginning is gone, as `transactions [2]`, and the first offset there: no vector and no profile of an
    installation can be computed again from there."""
    profiles_compared: int = 0
    profiles_different: int = 0
    examples: list[str] = []

    @property
    def well(self) -> bool:
        """Nothing lost, doubled or contradicting, and every profile as the log has it."""
        return not (self.lost or self.doubled or self.contradicting or self.profiles_different)


class _Verdict(msgspec.Struct):
    decided_at: Moment
    transaction_id: str
    account_id: str
    outcome: Outcome
    bundle: str
    vector_digest: str
    source: Source
    folded: Folded
    vector: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def degraded(self) -> bool:
        return Flag.DEGRADED in self.flags


class _Alert(msgspec.Struct):
    verdict: _Verdict
    reasons: msgspec.Raw

    @property
    def pending(self) -> bool:
        return bytes(self.reasons) == b'"pending"'


class _Explanation(msgspec.Struct):
    source: Source
    alert: int


@dataclass
class _Judged:
    """Of one partition: verdicts to be compared, and what they asked of counterparties."""

    vectors: Vectors
    """Without the counterparties' columns, as `instant`."""
    instant: Vectors
    encoded: list[bytes | None]
    """What stands behind the catalogue's part; None where the bundle is not at hand."""
    said: list[bytes | None]
    """The verdict's own vector, where that is all there is to compare with."""
    digest: list[str]
    name: list[str]
    counterparty: list[str | None]
    """Whose activity each was judged on; None: nobody's."""
    transactions: Facts
    seen: Ints
    to_tell: Ints
    """Sources (refolding.source_of) that counterparties must have heard of."""
    is_comparable: list[bool]
    committed: Offsets
    report: Report = field(default_factory=Report)


@dataclass
class _Answered:
    columns: Vectors
    instant: Vectors
    late: npt.NDArray[np.bool_]
    by_another_key: npt.NDArray[np.bool_]
    sources: Ints
    report: Report


class _Findings:
    """Counts what is wrong and keeps some of it in words."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def lost(self, what: str) -> None:
        self.report.lost += 1
        self._say(what)

    def doubled(self, what: str) -> None:
        self.report.doubled += 1
        self._say(what)

    def contradicts(self, what: str) -> None:
        self.report.contradicting += 1
        self._say(what)

    def _say(self, what: str) -> None:
        if len(self.report.examples) < EXAMPLES:
            self.report.examples.append(what)


_counter: Any = None


def _share(counter: Any) -> None:
    global _counter  # noqa: PLW0603 - how a pool's processes are handed one
    _counter = counter
    spare_the_collector()


def _told(count: int) -> None:
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += count


def check(
    settings: Settings,
    *,
    bundles: Path | None = None,
    profiles: bool = True,
    processes: int = 2,
    told: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Read everything and compute it again.  `told` hears how many messages are read, and of how many.

    `bundles` is the folder with the bundles that judged, None: the installation's; what they know of attributes is needed
    for the whole vector.
    Raises LogUnavailable, StoreUnavailable, RegistryUnavailable, WrongSettings.
    """
    settings.rules()  # without a key it is refused here, and not in each of the processes
    with Log(settings) as log:
        log.check_topics()
        bounds = {(topic.name, n): log.bounds(topic, n) for topic in INPUTS for n in range(settings.partitions)}
        losses = [loss for n in range(settings.partitions) for loss in log.losses(n)]
        topics = TopicIds(*log.topic_ids())
    total = sum(high - low for low, high in bounds.values())
    begins_at = {f"{name} [{n}]": low for (name, n), (low, _) in bounds.items() if low > 0}
    lows = {place: low for place, (low, _) in bounds.items()}
    known = _Known(topics, losses, lows)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    numbers = range(settings.partitions)
    there = installation.bundles(settings.topic_prefix) if bundles is None else bundles
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_share, initargs=(counter,)) as pool:

        def results(futures: list[Future[Any]]) -> list[Any]:
            while not all(future.done() for future in futures):
                told(counter.value, total)
                time.sleep(0.1)
            return [future.result() for future in futures]

        judged: list[_Judged] = results(
            [pool.submit(_check_partition, settings, n, there, profiles, known) for n in numbers]
        )
        asked = _asked(judged, settings.partitions)
        answered: list[_Answered] = results(
            [pool.submit(_check_counterparties, settings, n, asked[n], profiles, known) for n in numbers]
        )
        told(total, total)
    report = _sum_up(judged, answered, asked, known)
    report.begins_at = begins_at
    report.accepted = [
        f"{loss.topic} [{loss.partition}] {loss.begin} to {loss.end - 1}, accepted {loss.at:%Y-%m-%d %H:%M:%S}"
        for loss in losses
    ]
    return report


@dataclass(frozen=True)
class _Known:
    """What is known of the log before it is read: which it is, and what of it is gone."""

    topics: TopicIds
    losses: list[Loss]
    lows: dict[tuple[str, int], int]
    """By topic and partition number, the first offset that is still there."""

    @property
    def is_whole(self) -> bool:
        """False: retention has taken its beginning."""
        return not any(self.lows.values())

    def is_gone(self, topic: Topic, source: Source, said_at: datetime) -> bool:
        """Was what was said then of a record said of another log's, or of one that retention took, or whose loss was accepted?"""
        if source.topic_id not in ("", self.topics[INPUTS.index(topic)]):
            return True
        return source.offset < self.lows.get((topic.name, source.partition), 0) or any(
            loss.covers(topic.name, source.partition, source.offset, said_at) for loss in self.losses
        )

    def knows(self, activity: CounterpartyActivity, timestamp: int) -> bool:
        """Is the message that this activity tells of still in the log?"""
        topic = TRANSACTIONS if activity.known_at is None else LABELS
        return not self.is_gone(topic, activity.source, datetime.fromtimestamp(timestamp / 1e3, UTC))

    def is_excused(
        self, topic: Topic, timestamp: int, *, partition: int | None = None, offset: int | None = None
    ) -> bool:
        """Was what was told of a record of this time lost on that topic afterwards, as somebody has accepted?"""
        return any(
            loss.topic == topic.name
            and timestamp <= loss.at.timestamp() * 1e3
            and (partition is None or loss.partition == partition)
            and (offset is None or loss.begin <= offset < loss.end)
            for loss in self.losses
        )

    def is_comparable(self, verdict: _Verdict, home: int | None) -> bool:
        """Is all that it was judged on still there?  `home` is the partition of its counterparty's activity."""
        folded, number = verdict.folded, verdict.source.partition
        if not self.is_whole or folded.labels_topic_id not in ("", self.topics.labels):
            return False
        activity = -1 if folded.activity is None else folded.activity
        return not any(
            verdict.decided_at <= loss.at
            and (
                (loss.topic == LABELS.name and loss.partition == number and folded.labels > loss.begin)
                or (loss.topic == ACTIVITY.name and loss.partition == home and activity >= loss.begin)
            )
            for loss in self.losses
        )


def _check_partition(settings: Settings, number: int, bundles: Path, with_profiles: bool, known: _Known) -> _Judged:
    report = Report()
    findings = _Findings(report)
    with Log(settings) as log:
        raw = _raw_position(settings, number) if with_profiles else b""
        standing = log.standing(number, raw, topics=lambda: known.topics, outputs=False)
        told = standing.resumed(standing.position_if_any()) or standing.offsets()
        committed = Offsets(*(max(offset, 0) for offset in told))
        marks = standing.marks()
        position, stored = _snapshot(settings, number, "a") if with_profiles else (None, {})
        # Read after what was committed: workers may have said more meanwhile, which is not looked at.
        verdicts, gone = _verdicts(log, number, committed.transactions, known, findings)
        reached = log.explained(number)
        alerts, pending = _alerts(log, number, committed.transactions, verdicts, known, findings)
        _explanations(
            log, number, committed.transactions, pending, reached, {one.source for one in gone}, known, findings
        )
        letters = _letters(log, number, committed, known, findings)
    at_hand = _at_hand(bundles, {verdict.bundle for verdict in verdicts.values()})
    encoders = {offset: at_hand[verdict.bundle] for offset, verdict in verdicts.items() if verdict.bundle in at_hand}
    found = read_accounts(settings, number, standing.low, standing.high, encoders, _told)
    seen = {
        offset: verdict.folded.labels
        for offset, verdict in verdicts.items()
        if verdict.folded.labels_topic_id in ("", known.topics.labels)
    }
    vectors = describe_accounts(found, seen)
    instant = describe_accounts(found, seen, instantly=True)
    if not known.is_whole:
        _heed_what_is_gone(found, verdicts, gone, letters)
    begin, end = max(marks.judged_from, standing.low.transactions), committed.transactions
    report.verdicts, report.alerts = len(verdicts), len(alerts)
    report.outcomes = dict(Counter(verdict.outcome.value for verdict in verdicts.values()))
    to_tell = [
        source_of(number, offset, is_label=True)
        for offset, named in found.labels_told.items()
        if named and offset < committed.labels
    ]
    to_tell += [
        source_of(number, offset, is_label=False)
        for offset, status, name in zip(
            found.offset.tolist(), found.status.tolist(), found.counterparty_id, strict=True
        )
        if status == kernel.NEW and offset < end and name is not None
    ]
    rows, reused = _match_verdicts(number, found, verdicts, range(begin, end), known, findings)
    homes = partitions_of([(found.counterparty_id[row] or "").encode() for row in rows], settings.partitions).tolist()
    rejected = found.rejected | {(TRANSACTIONS.name, offset): Fault.ID_REUSED for offset in reused}
    counterparties = _counterparties(number, found, rows, verdicts, known, findings)
    mine = {place: letter for place, letter in letters.items() if place[0] != ACTIVITY.name}
    _check_letters(number, rejected, mine, marks, committed, findings)
    if position is not None and known.is_whole:
        _compare_profiles(refold_accounts(found, position.next), stored, f"partition {number}, account", report)
    return _Judged(
        vectors=vectors[rows, : OF_THE_COUNTERPARTY.start],
        instant=instant[rows, : OF_THE_COUNTERPARTY.start],
        encoded=[found.encoded.get(int(found.offset[row])) for row in rows],
        said=[
            None if verdict.bundle in at_hand or verdict.vector is None else b64decode(verdict.vector)
            for verdict in (verdicts[int(found.offset[row])] for row in rows)
        ],
        digest=[verdicts[int(found.offset[row])].vector_digest for row in rows],
        name=[_named(number, found, row) for row in rows],
        counterparty=counterparties,
        transactions=found.transactions[rows],
        seen=np.array([_or_none(verdicts[int(found.offset[row])].folded.activity) for row in rows], np.int64),
        to_tell=np.array(to_tell, np.int64),
        is_comparable=[
            known.is_comparable(verdicts[int(found.offset[row])], home) for row, home in zip(rows, homes, strict=True)
        ],
        committed=committed,
        report=report,
    )


def _at_hand(bundles: Path, names: set[str]) -> dict[str, Encoder]:
    """The encoders of these bundles, by name; without those that aren't in the folder, or aren't what their name says."""
    found: dict[str, Encoder] = {}
    for name in names:
        with suppress(OSError, UnusableModel):
            if digest_of(bundles / name) == name:
                found[name] = Encoder.load(bundles / name)
    return found


def _or_none(activity: int | None) -> int:
    return -1 if activity is None else activity


def _values(log: Log, topic: Topic, number: int) -> Iterator[tuple[int, bytes | None]]:
    for records in log.read(topic, number, *log.bounds(topic, number)):
        yield from ((record.offset, record.value) for record in records)


def _verdicts(
    log: Log, number: int, end: int, known: _Known, findings: _Findings
) -> tuple[dict[int, _Verdict], list[_Verdict]]:
    """Those of the log as it is, by the offset of their transaction; and those of records that are gone."""
    decode = msgspec.json.Decoder(_Verdict).decode
    found: dict[int, _Verdict] = {}
    gone: list[_Verdict] = []
    for _, value in _values(log, VERDICTS, number):
        verdict = decode(value or b"")
        if verdict.source.partition != number:
            findings.contradicts(f"a verdict in partition {number} of {verdict.source}: another number's")
        elif known.is_gone(TRANSACTIONS, verdict.source, verdict.decided_at):
            gone.append(verdict)
            findings.report.gone += 1
        elif verdict.source.offset >= end:
            continue
        elif verdict.source.offset in found:
            findings.doubled(f"transactions [{number}] at {verdict.source.offset} has two verdicts")
        else:
            found[verdict.source.offset] = verdict
    return found, gone


def _alerts(
    log: Log, number: int, end: int, verdicts: dict[int, _Verdict], known: _Known, findings: _Findings
) -> tuple[set[int], dict[int, int]]:
    """Which transactions have one, and of those without reasons where the alert lies."""
    decode = msgspec.json.Decoder(_Alert).decode
    found: set[int] = set()
    pending: dict[int, int] = {}
    for place, value in _values(log, ALERTS, number):
        alert = decode(value or b"")
        verdict = alert.verdict
        offset = verdict.source.offset
        if offset >= end or known.is_gone(TRANSACTIONS, verdict.source, verdict.decided_at):
            continue
        if alert.pending:
            pending.setdefault(offset, place)
        if offset in found:
            findings.doubled(f"transactions [{number}] at {offset} has two alerts")
        elif offset not in verdicts and known.is_excused(
            VERDICTS, verdict.source.timestamp, partition=number, offset=offset
        ):
            findings.report.gone += 1
        elif not _same(verdicts.get(offset), verdict) or verdict.outcome is Outcome.APPROVE:
            findings.contradicts(f"transactions [{number}] at {offset} has an alert that is not its verdict's")
        found.add(offset)
    for offset, verdict in verdicts.items():
        if verdict.outcome is not Outcome.APPROVE and offset not in found:
            findings.lost(f"transactions [{number}] at {offset} is flagged, and has no alert")
    return found, pending


def _same(verdict: _Verdict | None, alerted: _Verdict) -> bool:
    """An alert without reasons has its vector also where verdicts go without; both name it by its digest."""
    plain = msgspec.structs.replace
    return verdict is not None and plain(verdict, vector=None) == plain(alerted, vector=None)


def _explanations(
    log: Log,
    number: int,
    end: int,
    pending: dict[int, int],
    reached: int,
    gone: set[Source],
    known: _Known,
    findings: _Findings,
) -> None:
    decode = msgspec.json.Decoder(_Explanation).decode
    found: set[int] = set()
    for _, value in _values(log, EXPLANATIONS, number):
        explanation = decode(value or b"")
        offset = explanation.source.offset
        if explanation.source.partition != number:
            findings.contradicts(f"an explanation in partition {number} of {explanation.source}: another number's")
        elif offset >= end or explanation.source in gone:
            continue
        elif explanation.source.topic_id not in ("", known.topics.transactions):
            findings.report.gone += 1
        elif offset in found:
            findings.doubled(f"transactions [{number}] at {offset} has two explanations")
        elif pending.get(offset) != explanation.alert:
            findings.contradicts(
                f"transactions [{number}] at {offset} has an explanation that its alert did not leave open"
            )
        else:
            found.add(offset)
    findings.report.explanations = len(found)
    for offset, place in pending.items():
        if offset not in found and place < reached:
            findings.lost(f"transactions [{number}] at {offset} has an alert without reasons, and no explanation")
        elif offset not in found:
            findings.report.awaited += 1


def awaited(settings: Settings) -> int:
    """Alerts without reasons that no explainer has come to yet.  Raises LogUnavailable."""
    decode = msgspec.json.Decoder(_Alert).decode
    count = 0
    with Log(settings) as log:
        for number in range(settings.partitions):
            low, end = log.bounds(ALERTS, number)
            for records in log.read(ALERTS, number, max(low, log.explained(number)), end):
                for record in records:
                    with suppress(msgspec.DecodeError):  # somebody else wrote there
                        count += decode(record.value or b"").pending
    return count


def _letters(
    log: Log, number: int, committed: Offsets, known: _Known, findings: _Findings
) -> dict[tuple[str, int], DeadLetter]:
    found: dict[tuple[str, int], DeadLetter] = {}
    for (topic, offset), letter in log.letters_about(number, known.topics):
        name = INPUTS[topic].name
        if offset >= committed[topic]:
            continue
        if (name, offset) in found:
            findings.doubled(f"{letter.topic} [{number}] at {offset} has two dead letters")
        found[name, offset] = letter
    return found


def _check_letters(
    number: int,
    rejected: dict[tuple[str, int], Fault],
    letters: dict[tuple[str, int], DeadLetter],
    marks: Marks,
    committed: Offsets,
    findings: _Findings,
) -> None:
    report = findings.report
    ends = {TRANSACTIONS.name: committed.transactions, LABELS.name: committed.labels, ACTIVITY.name: committed.activity}
    for (topic, offset), fault in rejected.items():
        letter = letters.pop((topic, offset), None)
        name = f"{topic} [{number}] at {offset}"
        if offset >= ends[topic]:
            report.pending += 1
        elif topic == TRANSACTIONS.name and offset < marks.judged_from:
            continue
        elif letter is None and fault is Fault.OTHER_KEY:
            continue  # told by the key of its time, and by ours since then: its source is among what was told
        elif letter is None:
            findings.lost(f"{name} is no message that can be judged ({fault}), and has no dead letter")
            report.transactions += topic == TRANSACTIONS.name
        else:
            report.transactions += topic == TRANSACTIONS.name
            report.dead_lettered[letter.fault.value] = report.dead_lettered.get(letter.fault.value, 0) + 1
            if letter.fault is not fault:
                findings.contradicts(f"{name} is dead-lettered as {letter.fault}, and is {fault}")
    for topic, offset in letters:
        findings.contradicts(f"{topic} [{number}] at {offset} has a dead letter, and nothing is wrong with it")


def _match_verdicts(
    number: int, found: Accounts, verdicts: dict[int, _Verdict], judged: range, known: _Known, findings: _Findings
) -> tuple[list[int], list[int]]:
    """The rows with a verdict to be compared, and the offsets of ids that were used again."""
    report = findings.report
    rows: list[int] = []
    reused: list[int] = []
    unmatched = set(verdicts)
    timestamps = dict(zip(found.record_offset.tolist(), found.record_timestamp.tolist(), strict=True))
    for row, (offset, status) in enumerate(zip(found.offset.tolist(), found.status.tolist(), strict=True)):
        unmatched.discard(offset)
        if offset not in judged:
            report.pending += offset >= judged.stop
            if offset in verdicts:
                findings.contradicts(f"{_named(number, found, row)} has a verdict, and was not to be judged")
            continue
        if status == kernel.ID_REUSED:
            reused.append(offset)
            if offset in verdicts:
                findings.contradicts(f"{_named(number, found, row)} has an id used again, and a verdict")
            continue
        report.transactions += 1
        verdict = verdicts.get(offset)
        if status == kernel.DUPLICATE:
            report.duplicates += 1
            if verdict is not None:
                findings.doubled(f"{_named(number, found, row)} came again, and has a verdict of its own")
        elif verdict is not None:
            rows.append(row)
            is_meant = verdict.source.timestamp in (-1, timestamps[offset])
            said, there = (
                (verdict.transaction_id, verdict.account_id),
                (found.transaction_id[row], found.account_id[row]),
            )
            if said != there or not is_meant:
                findings.contradicts(f"{_named(number, found, row)} has the verdict of {verdict.transaction_id!r}")
        elif known.is_excused(VERDICTS, timestamps[offset], partition=number, offset=offset):
            report.gone += 1
        else:
            findings.lost(f"{_named(number, found, row)} has no verdict")
    for offset in unmatched:
        findings.contradicts(f"transactions [{number}] at {offset} has a verdict, and is no transaction")
    return rows, reused


def _counterparties(
    number: int, found: Accounts, rows: list[int], verdicts: dict[int, _Verdict], known: _Known, findings: _Findings
) -> list[str | None]:
    """Whose activity each verdict was judged on.

    Of one partition, in the order of its log, what is known of a counterparty never becomes less: profiles that were lost are
    folded anew before anybody is judged by them, or the verdict is flagged.  But for activity whose loss was accepted.
    """
    report = findings.report
    judged_on: list[str | None] = []
    most: dict[tuple[str, int], int] = {}
    for row in rows:
        name, verdict = found.counterparty_id[row], verdicts[int(found.offset[row])]
        seen = _or_none(verdict.folded.activity)
        if verdict.degraded:
            report.degraded += 1
            if name is None:
                findings.contradicts(f"{_named(number, found, row)} is flagged degraded, and names no counterparty")
            elif seen >= 0:
                findings.contradicts(f"{_named(number, found, row)} is flagged degraded, and says what was folded")
            name = None
        elif name is not None:
            key = name, sum(loss.topic == ACTIVITY.name and loss.at < verdict.decided_at for loss in known.losses)
            if seen < most.get(key, -1):
                report.judged_on_too_little += 1
                findings.contradicts(
                    f"{_named(number, found, row)} was judged on less of its counterparty than was known before, and not flagged"
                )
            most[key] = max(seen, most.get(key, -1))
        judged_on.append(name)
    return judged_on


def _heed_what_is_gone(
    found: Accounts, verdicts: dict[int, _Verdict], gone: list[_Verdict], letters: dict[tuple[str, int], DeadLetter]
) -> None:
    """Some transactions came again, or have an id that was used before, and the first of them is no longer in the log."""
    answered = {(verdict.account_id, verdict.transaction_id) for verdict in gone}
    for row, offset in enumerate(found.offset.tolist()):
        letter = letters.get((TRANSACTIONS.name, offset))
        if letter is not None and letter.fault is Fault.ID_REUSED:
            found.status[row] = kernel.ID_REUSED
        elif offset not in verdicts and (found.account_id[row], found.transaction_id[row]) in answered:
            found.status[row] = kernel.DUPLICATE


def _named(number: int, found: Accounts, row: int) -> str:
    return f"transactions [{number}] at {found.offset[row]} ({found.transaction_id[row]})"


@dataclass(frozen=True)
class _Asked:
    """The verdicts whose counterparty's activity lies in one partition: n of each."""

    partition: Ints
    """Whose judged it is among, and its row there."""
    row: Ints
    counterparty: list[str]
    transactions: Facts
    seen: Ints


def _asked(judged: list[_Judged], partitions: int) -> list[_Asked]:
    named = [(number, row) for number, part in enumerate(judged) for row in _named_rows(part)]
    names = [judged[number].counterparty[row] or "" for number, row in named]
    home = partitions_of([name.encode() for name in names], partitions)
    whose, rows = np.array(named, np.int64).reshape(-1, 2).T
    transactions = np.concatenate([part.transactions[_named_rows(part)] for part in judged])
    seen = np.concatenate([part.seen[_named_rows(part)] for part in judged])
    return [
        _Asked(
            partition=whose[here],
            row=rows[here],
            counterparty=[names[i] for i in here.tolist()],
            transactions=transactions[here],
            seen=seen[here],
        )
        for here in (np.flatnonzero(home == number) for number in range(partitions))
    ]


def _named_rows(part: _Judged) -> list[int]:
    """Those that name a counterparty."""
    return [row for row, name in enumerate(part.counterparty) if name is not None]


def _check_counterparties(
    settings: Settings, number: int, asked: _Asked, with_profiles: bool, known: _Known
) -> _Answered:
    report = Report()
    with Log(settings) as log:
        begin, end = log.bounds(ACTIVITY, number)
        standing = log.standing(number, b"", topics=lambda: known.topics, outputs=False)
        committed = Offsets(*(max(offset, 0) for offset in standing.offsets()))
        position, stored = _snapshot(settings, number, "c") if with_profiles else (None, {})
        letters = _letters(log, number, committed, known, _Findings(Report()))
    found = read_counterparties(settings, number, begin, end, known.knows, _told)
    report.activity = len(found.offset) + len(found.rejected)
    report.gone = len(found.offset) - len(found.source)
    told = {place: letter for place, letter in letters.items() if place[0] == ACTIVITY.name}
    passed_over = [
        offset
        for (topic, offset), fault in found.rejected.items()
        if fault is Fault.OTHER_KEY and (topic, offset) not in told
    ]
    by_another_key = (asked.seen >= 0) & (asked.seen <= max(passed_over, default=-1))
    _check_letters(number, found.rejected, told, Marks(), committed, _Findings(report))
    names = found.names
    code = np.array([names.setdefault(name, len(names)) for name in asked.counterparty], np.int64)
    questions = Questions(counterparty=code, transactions=asked.transactions, seen=asked.seen)
    columns = describe_counterparties(found, questions)
    instant = describe_counterparties(found, questions, instantly=True)
    if position is not None and known.is_whole:
        blobs = refold_counterparties(found, position.next.activity)
        _compare_profiles(blobs, stored, f"partition {number}, counterparty", report)
    return _Answered(
        columns=columns[:, OF_THE_COUNTERPARTY],
        instant=instant[:, OF_THE_COUNTERPARTY],
        late=came_late(found, questions) & ~by_another_key,
        by_another_key=by_another_key,
        sources=found.source,
        report=report,
    )


def _sum_up(judged: list[_Judged], answered: list[_Answered], asked: list[_Asked], known: _Known) -> Report:
    report = _together([part.report for part in judged] + [part.report for part in answered])
    findings = _Findings(report)
    columns = OF_THE_COUNTERPARTY.stop - OF_THE_COUNTERPARTY.start
    theirs = [np.full((2, len(part.vectors), columns), np.nan, np.float32) for part in judged]
    for answer, question in zip(answered, asked, strict=True):
        for number, mine in enumerate(theirs):
            here = question.partition == number
            mine[0, question.row[here]], mine[1, question.row[here]] = answer.columns[here], answer.instant[here]
        report.activity_late += int(answer.late.sum())
    passed_over = [np.zeros(len(part.vectors), np.bool_) for part in judged]
    for answer, question in zip(answered, asked, strict=True):
        for number, old in enumerate(passed_over):
            here = question.partition == number
            old[question.row[here]] = answer.by_another_key[here]
    for part, (heard, instant), old in zip(judged, theirs, passed_over, strict=True):
        vectors, at_once = np.hstack([part.vectors, heard]), np.hstack([part.instant, instant])
        report.vectors_by_another_key += int(old.sum())
        _compare_vectors(part, vectors, at_once, old, findings)
    _compare_sources(judged, np.concatenate([answer.sources for answer in answered]), known, findings)
    return report


def _compare_sources(judged: list[_Judged], told: Ints, known: _Known, findings: _Findings) -> None:
    """What counterparties heard of against what they should have, up to what was committed."""
    should = np.concatenate([part.to_tell for part in judged])
    ends = np.array([[part.committed.transactions, part.committed.labels] for part in judged])
    partition, offset, is_label = partition_offset_label(told)
    ours = partition < len(ends)
    committed = ~ours | (offset < ends[np.where(ours, partition, 0), is_label])
    heard, times = np.unique(told[committed], return_counts=True)
    missing = np.setdiff1d(should, heard)
    if any(loss.topic == ACTIVITY.name for loss in known.losses) or not known.is_whole:
        findings.report.gone += len(missing)
    else:
        for source in missing:
            findings.lost(f"{_source(source)}: its counterparty never heard of it")
    for source, count in zip(heard[times > 1], times[times > 1], strict=True):
        findings.doubled(f"{_source(source)}: its counterparty heard of it {count} times")
    for source in np.setdiff1d(heard, should):
        findings.contradicts(f"{_source(source)}: its counterparty heard of it, and should not have")


def _compare_vectors(
    part: _Judged, vectors: Vectors, instant: Vectors, passed_over: npt.NDArray[np.bool_], findings: _Findings
) -> None:
    report = findings.report
    unlike = (vectors.view(np.int32) != instant.view(np.int32)).any(axis=1)
    report.vectors_different_if_instant += int((unlike & ~passed_over).sum())
    width = vectors.shape[1] * vectors.itemsize
    whole = vectors.tobytes()
    for row, (encoded, said, digest) in enumerate(zip(part.encoded, part.said, part.digest, strict=True)):
        if passed_over[row]:
            continue
        if not part.is_comparable[row]:
            report.vectors_not_comparable += 1
            continue
        described = whole[row * width : (row + 1) * width]
        vector = _vector(described, encoded, said)
        if encoded is not None or said is not None or xxh3_64_hexdigest(described) == digest:
            report.vectors_compared += 1
            report.vectors_compared_in_full += encoded is not None or len(vector) == len(described)
            if xxh3_64_hexdigest(vector) != digest:
                report.vectors_different += 1
                findings.contradicts(f"{part.name[row]} was judged on another vector than the log gives")


def _vector(described: bytes, encoded: bytes | None, said: bytes | None) -> bytes:
    """What the verdict's digest must be of.  Without the bundle, what stands behind the catalogue's part is what it says."""
    if encoded is None:
        encoded = b"" if said is None else said[len(described) :]
    return described + encoded


def _source(source: int) -> str:
    (partition,), (offset,), (is_label,) = partition_offset_label(np.array([source]))
    return f"{LABELS.name if is_label else TRANSACTIONS.name} [{partition}] at {offset}"


def _together(reports: list[Report]) -> Report:
    whole = Report()
    for one in reports:
        for name in whole.__struct_fields__:
            mine, other = getattr(whole, name), getattr(one, name)
            if isinstance(mine, dict):
                setattr(whole, name, dict(Counter(mine) + Counter(other)))
            elif isinstance(mine, list):
                setattr(whole, name, (mine + other)[:EXAMPLES])
            else:
                setattr(whole, name, mine + other)
    return whole


def _raw_position(settings: Settings, number: int) -> bytes:
    found: Any = connect(settings).get(Keys(settings.topic_prefix, number).position)
    return found or b""


def _snapshot(settings: Settings, number: int, kind: str) -> tuple[Position | None, dict[str, bytes]]:
    """What the store holds of a partition's accounts (`a`) or counterparties (`c`), at one position, if it has one."""
    keys = Keys(settings.topic_prefix, number)
    client: Any = connect(settings)
    for _ in range(20):
        raw = client.get(keys.position)
        if raw is None:
            return None, {}
        position = Position.parse(raw)
        pattern = keys.of_epoch(position.epoch)
        names = list(client.scan_iter(match=pattern.replace("[ac]:*", f"{kind}:*"), count=5_000))
        found: dict[str, bytes] = {}
        for start in range(0, len(names), 2_000):
            some = names[start : start + 2_000]
            for name, blob in zip(some, client.mget(some), strict=True):
                found[name.decode().split(f":{position.epoch}:{kind}:", 1)[1]] = blob
        if client.get(keys.position) == raw:
            return position, found
        time.sleep(0.25)  # it moved meanwhile: what was read is of no one instant
    raise StoreUnavailable(f"partition {number} does not stand still: check the profiles when nothing is being sent")


def _compare_profiles(expected: dict[str, bytes], stored: dict[str, bytes], what: str, report: Report) -> None:
    report.profiles_compared += len(expected)
    for name in expected.keys() | stored.keys():
        if expected.get(name) != stored.get(name):
            report.profiles_different += 1
            if len(report.examples) < EXAMPLES:
                there = (
                    "is not there" if name not in stored else "differs" if name in expected else "should not be there"
                )
                report.examples.append(f"{what} {name!r}: its profile {there}")
