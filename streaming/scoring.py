"""Decides on a batch of described transactions.  Knows nothing of Kafka, HTTP or Redis."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
from xxhash import xxh3_64_hexdigest

from features.describing import Described
from schemas.bundle import Thresholds
from schemas.verdict import Alert, Flag, Folded, Outcome, Source, Verdict
from streaming.budget import Budget
from streaming.bundle import LoadedBundle, Vectors
from streaming.reasons import Explainer

_LATE = (Flag.LATE,)


@dataclass(frozen=True)
class Decisions:
    """What is said of a batch's transactions, in their order."""

    verdicts: list[Verdict]
    alerts: list[Alert]
    """Of the flagged ones."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A bundle and a policy: the same vector always gets the same score and the same outcome."""

    bundle: LoadedBundle
    explainer: Explainer
    thresholds: Thresholds
    with_vectors: bool
    budget: Budget
    """Of time for reasons; beyond it (an attack) they are `pending`, and the explainer's."""

    def decide(self, described: Described, next_labels: Mapping[int, int], now: datetime) -> Decisions:
        """Score and judge; `next_labels` is, by partition number, the next label that the profiles had not folded."""
        if not described.transactions:
            return Decisions([], [])
        vectors = self.bundle.encoder.extend(described.vectors, [taken.message for taken in described.transactions])
        margins = self.bundle.margins(vectors)
        raw = vectors.tobytes()
        width = vectors.shape[1] * vectors.itemsize
        bundle, policy = self.bundle.name, self.thresholds.digest()
        probability, judge = self.bundle.manifest.calibration.probability, self.thresholds.judge
        verdicts: list[Verdict] = []
        flagged: list[int] = []
        for i, (taken, margin, late, activity) in enumerate(
            zip(
                described.transactions,
                margins.tolist(),
                described.late.tolist(),
                described.folded_activity.tolist(),
                strict=True,
            )
        ):
            transaction, record = taken.message, taken.record
            vector = raw[i * width : (i + 1) * width]
            score = probability(margin)
            outcome = judge(score)
            if outcome is not Outcome.APPROVE:
                flagged.append(i)
            verdicts.append(
                Verdict(
                    transaction_id=transaction.transaction_id,
                    account_id=transaction.account_id,
                    outcome=outcome,
                    score=score,
                    margin=margin,
                    bundle=bundle,
                    policy=policy,
                    vector_digest=xxh3_64_hexdigest(vector),
                    occurred_at=transaction.occurred_at,
                    decided_at=now,
                    source=Source(record.partition, record.offset),
                    folded=Folded(next_labels[record.partition], None if activity < 0 else activity),
                    vector=_in_base64(vector) if self.with_vectors else None,
                    flags=_LATE if late else (),
                )
            )
        return Decisions(verdicts, self._alerts(described, vectors, verdicts, flagged))

    def _alerts(
        self, described: Described, vectors: Vectors, verdicts: list[Verdict], flagged: list[int]
    ) -> list[Alert]:
        transactions = [described.transactions[i].message for i in flagged]
        told = self.explainer.reasons_within(self.budget, vectors[flagged], transactions)
        return [
            Alert(
                verdict=verdicts[i] if why != "pending" else _with_vector(verdicts[i], vectors[i].tobytes()),
                transaction=described.transactions[i].message,
                reasons=why,
            )
            for i, why in zip(flagged, told, strict=True)
        ]


def _with_vector(verdict: Verdict, vector: bytes) -> Verdict:
    """Whoever completes the reasons needs it, also where verdicts go without."""
    return msgspec.structs.replace(verdict, vector=_in_base64(vector))


def _in_base64(vector: bytes) -> str:
    return b2a_base64(vector, newline=False).decode()
