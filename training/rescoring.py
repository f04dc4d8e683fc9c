"""A verdict computed once more, from its vector and its bundle: the same score to the last bit, or something was changed."""

from __future__ import annotations

import struct
from binascii import Error as NoBase64
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from xxhash import xxh3_64_hexdigest

from features.log import Log
from features.settings import Settings
from schemas.bundle import Thresholds
from schemas.errors import BadMessage
from schemas.partitioning import partition_of
from schemas.topics import ALERTS, VERDICTS, Topic
from schemas.verdict import Alert, Flag, Outcome, Reason, Shadow, Verdict, decode_alert, decode_verdict
from training.contender import Contender
from training.errors import Refused
from training.export import run

Found = TypeVar("Found")
Scanned = Callable[[int, int], None]
"""Is told how many partitions of how many were looked through."""


def _unheard(_done: int, _of: int) -> None: ...


class Rescored(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, and what its vector and its bundle give today."""

    transaction_id: str
    account_id: str
    bundle: str
    policy: str
    margin: float
    """Of the verdict."""
    margin_again: float
    score: float
    score_again: float
    outcome: Outcome
    outcome_again: Outcome | None
    """None: it was judged by a worker's own thresholds, which aren't the bundle's."""
    thresholds: Thresholds
    canary: bool
    """The challenger judged it: the account is one of its share."""
    shadow: Shadow | None
    """What another bundle said of it."""
    vector_same: bool
    """The vector has the verdict's digest."""
    reasons: tuple[Reason, ...]
    """The alert's."""

    @property
    def same(self) -> bool:
        """Bit for bit."""
        return (
            self.vector_same
            and _bits(self.margin) == _bits(self.margin_again)
            and _bits(self.score) == _bits(self.score_again)
            and self.outcome_again in (None, self.outcome)
        )


def find(
    settings: Settings, transaction_id: str, account_id: str | None, on_partition: Scanned = _unheard
) -> tuple[Verdict, Alert | None]:
    """The verdict on the log, and its alert where it was flagged; an account makes it quick: it names the partition.

    Raises Refused where there is none, LogUnavailable.
    """
    with Log(settings) as log:
        numbers = list(range(settings.partitions))
        if account_id is not None:
            numbers = [partition_of(account_id.encode(), settings.partitions)]
        for done, number in enumerate(numbers, 1):
            for verdict in _about(log, VERDICTS, number, transaction_id, decode_verdict):
                if verdict.transaction_id == transaction_id and account_id in (None, verdict.account_id):
                    return verdict, _alert(log, number, verdict)
            on_partition(done, len(numbers))
    whose = "" if account_id is None else f" of account {account_id!r}"
    raise Refused(f"there is no verdict on transaction {transaction_id!r}{whose} on {settings.topic(VERDICTS)}")


def rescore(verdict: Verdict, alert: Alert | None, folder: Path) -> Rescored:
    """By the bundle in this folder.  Raises Refused where the vector was left away, UnusableModel."""
    text = verdict.vector or (None if alert is None else alert.verdict.vector)
    if text is None:
        raise Refused(
            f"the verdict on {verdict.transaction_id!r} has no vector, only its digest: FRAUD_VECTORS was false; "
            "`loadgen check` computes vectors from the log"
        )
    contender = Contender.read(folder)
    try:
        raw = a2b_base64(text)
        vector = np.frombuffer(raw, "<f4").reshape(1, len(contender.manifest.features))
    except (NoBase64, ValueError) as error:
        raise Refused(
            f"the vector of {verdict.transaction_id!r} is none of bundle {contender.name}: {error}"
        ) from error
    margin = float(run(contender.graph, vector)[0])
    score = contender.manifest.calibration.probability(margin)
    thresholds = contender.manifest.thresholds
    return Rescored(
        transaction_id=verdict.transaction_id,
        account_id=verdict.account_id,
        bundle=verdict.bundle,
        policy=verdict.policy,
        margin=verdict.margin,
        margin_again=margin,
        score=verdict.score,
        score_again=score,
        outcome=verdict.outcome,
        outcome_again=thresholds.judge(score) if thresholds.digest() == verdict.policy else None,
        thresholds=thresholds,
        canary=Flag.CANARY in verdict.flags,
        shadow=verdict.shadow,
        vector_same=xxh3_64_hexdigest(raw) == verdict.vector_digest,
        reasons=() if alert is None or alert.reasons == "pending" else alert.reasons,
    )


def _alert(log: Log, number: int, verdict: Verdict) -> Alert | None:
    if verdict.outcome is Outcome.APPROVE:
        return None
    alerts = _about(log, ALERTS, number, verdict.transaction_id, decode_alert)
    return next((alert for alert in alerts if alert.verdict.source == verdict.source), None)


def _about(
    log: Log, topic: Topic, number: int, transaction_id: str, decode: Callable[[bytes | None], Found]
) -> Iterator[Found]:
    """The messages that name it somewhere: only these are decoded."""
    wanted = msgspec.json.encode(transaction_id)
    for records in log.read(topic, number, *log.bounds(topic, number)):
        for record in records:
            if record.value is not None and wanted in record.value:
                try:
                    yield decode(record.value)
                except BadMessage:  # somebody else wrote there
                    continue


def _bits(number: float) -> bytes:
    return struct.pack("<d", number)
