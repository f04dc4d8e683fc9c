"""Decides on a batch of described transactions.  Knows nothing of Kafka, HTTP or Redis."""

from __future__ import annotations

import logging
import time
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

import msgspec
import numpy as np
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from features.describing import Described, source_of
from schemas.bundle import Thresholds
from schemas.deployment import Role
from schemas.verdict import Alert, Flag, Folded, Outcome, Shadow, Verdict
from streaming.budget import Budget
from streaming.bundle import LoadedBundle, Vectors
from streaming.reasons import Explainer

log = logging.getLogger(__name__)

_ALL_HASHES = float(1 << 64)
_NOBODY: frozenset[int] = frozenset()
_FLAGS: Mapping[tuple[bool, bool], tuple[Flag, ...]] = {
    (late, degraded): (Flag.LATE,) * late + (Flag.DEGRADED,) * degraded
    for late in (False, True)
    for degraded in (False, True)
}
"""By whether a transaction is late, and whether it is degraded."""
_FLAGS_OF_THE_SHARE = {key: (*flags, Flag.CANARY) for key, flags in _FLAGS.items()}


class Senseless(ArithmeticError):
    """A bundle that answers with margins that are no numbers."""


@dataclass(frozen=True)
class Opinion:
    """What one bundle says of a batch's transactions, in their order."""

    vectors: Vectors
    margins: list[float]
    scores: list[float]
    outcomes: list[Outcome]
    seconds: float
    """What it took."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A bundle and a policy: the same vector always gets the same score and the same outcome."""

    bundle: LoadedBundle
    explainer: Explainer
    thresholds: Thresholds

    def opinion(self, described: Described) -> Opinion:
        """Of the transactions.  Raises Senseless; anything else that is raised is a bug of ours, or of the bundle's."""
        began = time.perf_counter()
        vectors = self.bundle.encoder.extend(described.vectors, [taken.message for taken in described.transactions])
        margins = self.bundle.margins(vectors)
        if not np.isfinite(margins).all():
            raise Senseless(f"{int((~np.isfinite(margins)).sum())} of {len(margins)} margins are no numbers")
        raw = margins.tolist()
        scores = list(map(self.bundle.manifest.calibration.probability, raw))
        outcomes = list(map(self.thresholds.judge, scores))
        return Opinion(vectors, raw, scores, outcomes, time.perf_counter() - began)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of asking a bundle on trial and the one that it is held against about the same transactions."""

    candidate: str
    reference: str
    opinions: tuple[Opinion, Opinion] | None
    """The candidate's and the reference's; None where one of them failed."""
    shadow: str
    """Which of the two only scores along, or judges no more than its share."""
    accounts: list[int]
    """Of the transactions: hashes."""
    failed: str | None = None
    """Which of the two."""
    failure: str = ""
    """In words."""


@dataclass(frozen=True)
class Decisions:
    """What is said of a batch's transactions, in their order."""

    verdicts: list[Verdict]
    alerts: list[Alert]
    """Of the flagged ones."""
    trial: Trial | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Who judges a batch, and who scores along: a whole batch is judged by one panel."""

    champion: Scorer
    shadow: Scorer | None = None
    role: Role = Role.CHALLENGER
    """The shadow's: a challenger is on trial itself; beside the former champion the new one is."""
    share: float = 0.0
    """Of the accounts: the shadow judges these."""
    with_vectors: bool
    budget: Budget
    """Of time for reasons; beyond it (an attack) they are `pending`, and the explainer's."""

    def decide(self, described: Described, folded: Mapping[int, Folded], now: datetime) -> Decisions:
        """Score and judge; `folded` is, by partition number, what the profiles had folded of labels.

        Where one of two bundles fails, the other judges alone.  Raises what the champion raises where there is none.
        """
        if not described.transactions:
            return Decisions([], [])
        said = _Said(described, folded, now, self.with_vectors)
        if self.shadow is None:
            said.by(self.champion, self.champion.opinion(described))
            return self._decisions(said, None)
        canary = self.role is Role.CHALLENGER
        champion, failed = _attempt(self.champion, described)
        shadow, shadow_failed = _attempt(self.shadow, described)
        if champion is not None and shadow is not None:
            theirs = self._of_the_share(described)
            said.by(self.champion, champion, beside=(self.shadow, shadow), but=theirs)
            if theirs:
                said.by(self.shadow, shadow, beside=(self.champion, champion), only=theirs, canary=canary)
            return self._decisions(said, self._trial(described, (champion, shadow)))
        if champion is not None:
            said.by(self.champion, champion)
            return self._decisions(said, self._trial(described, None, self.shadow, shadow_failed))
        if shadow is not None:
            said.by(self.shadow, shadow, canary=canary)
            return self._decisions(said, self._trial(described, None, self.champion, failed))
        assert failed is not None  # both: it is the messages' doing
        raise failed

    def _of_the_share(self, described: Described) -> frozenset[int]:
        """The transactions whose accounts the shadow judges: always the same ones for one bundle and share."""
        if self.shadow is None or not self.share:
            return _NOBODY
        seed, below = int(self.shadow.bundle.name[:8], 16), self.share * _ALL_HASHES
        return frozenset(
            i
            for i, taken in enumerate(described.transactions)
            if xxh3_64_intdigest(taken.record.key or b"", seed) < below
        )

    def _trial(
        self,
        described: Described,
        opinions: tuple[Opinion, Opinion] | None,
        failed: Scorer | None = None,
        failure: Exception | None = None,
    ) -> Trial:
        """`opinions`: the champion's and the shadow's."""
        assert self.shadow is not None
        names = (self.champion.bundle.name, self.shadow.bundle.name)
        if self.role is Role.CHALLENGER:
            names = names[::-1]
            opinions = opinions and (opinions[1], opinions[0])
        return Trial(
            candidate=names[0],
            reference=names[1],
            shadow=self.shadow.bundle.name,
            opinions=opinions,
            accounts=[hash(taken.record.key) for taken in described.transactions],
            failed=None if failed is None else failed.bundle.name,
            failure="" if failure is None else f"{type(failure).__name__}: {failure}",
        )

    def _decisions(self, said: _Said, trial: Trial | None) -> Decisions:
        alerts: list[tuple[int, Alert]] = []
        for scorer, vectors, rows in said.flagged:
            transactions = [said.described.transactions[i].message for i in rows]
            told = scorer.explainer.reasons_within(self.budget, vectors[rows], transactions)
            for i, transaction, why in zip(rows, transactions, told, strict=True):
                verdict = said.verdicts[i]
                if why == "pending":
                    verdict = msgspec.structs.replace(verdict, vector=_in_base64(vectors[i].tobytes()))
                alerts.append((i, Alert(verdict=verdict, transaction=transaction, reasons=why)))
        alerts.sort(key=itemgetter(0))
        return Decisions([said.verdicts[i] for i in range(len(said.verdicts))], [alert for _, alert in alerts], trial)


def _attempt(scorer: Scorer, described: Described) -> tuple[Opinion | None, Exception | None]:
    try:
        return scorer.opinion(described), None
    except Exception as error:  # the other bundle's answer tells whose fault it is
        log.exception("bundle %s failed on a batch", scorer.bundle.name)
        return None, error


class _Said:
    """A batch's verdicts, as they come from one bundle or from two."""

    def __init__(self, described: Described, folded: Mapping[int, Folded], now: datetime, with_vectors: bool) -> None:
        self.described = described
        self.verdicts: dict[int, Verdict] = {}
        self.flagged: list[tuple[Scorer, Vectors, list[int]]] = []
        """By whom, its vectors of the whole batch, and which transactions."""
        self._folded, self._now, self._with_vectors = folded, now, with_vectors

    def by(
        self,
        scorer: Scorer,
        opinion: Opinion,
        *,
        beside: tuple[Scorer, Opinion] | None = None,
        but: frozenset[int] = _NOBODY,
        only: frozenset[int] | None = None,
        canary: bool = False,
    ) -> None:
        """The verdicts of all transactions `but` some, or of some `only`; `beside` is who scores them along."""
        described, now = self.described, self._now
        raw = opinion.vectors.tobytes()
        width = opinion.vectors.shape[1] * opinion.vectors.itemsize
        bundle, policy = scorer.bundle.name, scorer.thresholds.digest()
        along, their_scores = ("", opinion.scores) if beside is None else (beside[0].bundle.name, beside[1].scores)
        flags_of = _FLAGS_OF_THE_SHARE if canary else _FLAGS
        flagged: list[int] = []
        for i, (taken, score, margin, outcome, late, degraded, activity, their_score) in enumerate(
            zip(
                described.transactions,
                opinion.scores,
                opinion.margins,
                opinion.outcomes,
                described.late.tolist(),
                described.degraded.tolist(),
                described.folded_activity.tolist(),
                their_scores,
                strict=True,
            )
        ):
            if i in but or (only is not None and i not in only):
                continue
            transaction, record = taken.message, taken.record
            vector = raw[i * width : (i + 1) * width]
            if outcome is not Outcome.APPROVE:
                flagged.append(i)
            self.verdicts[i] = Verdict(
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
                source=source_of(record),
                folded=_with_activity(self._folded[record.partition], activity),
                vector=_in_base64(vector) if self._with_vectors else None,
                flags=flags_of[late, degraded],
                shadow=Shadow(along, their_score) if along else None,
            )
        if flagged:
            self.flagged.append((scorer, opinion.vectors, flagged))


def _with_activity(folded: Folded, activity: int) -> Folded:
    return Folded(folded.labels, None if activity < 0 else activity, folded.labels_topic_id)


def _in_base64(vector: bytes) -> str:
    return b2a_base64(vector, newline=False).decode()
