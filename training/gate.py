"""A gate, and those that go by what is deployed.  How good a bundle is, and whether it can be served: training/gates.py."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas.deployment import Change, Deployment, Kind


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One of them, and how it went."""

    name: str
    passed: bool
    figure: float | str | None = None
    limit: float | str | None = None
    said: str
    """The same in words, with what it was held against."""

    def __str__(self) -> str:
        return f"{self.name}: {self.said}"


def in_words(gates: Iterable[Gate]) -> str:
    """Those that were not passed, each with its figure."""
    return "; ".join(str(gate) for gate in gates if not gate.passed)


def not_sent_back(bundle: str, deployment: Deployment | None) -> Gate:
    """Whom a guard has sent away comes back only if somebody insists: a retraining would promote it again every night."""
    before = None if deployment is None else deployment.sent_back(bundle)
    said = "it was never sent back" if before is None else f"{before.by} sent it back {when(before.at)}: {before.why}"
    return Gate(name="sent-back", passed=before is None, said=said)


def still_champion(judged: str | None, now: str | None, deployment: Deployment | None) -> Gate:
    """Whether `now` judges, as when the gates were: what is better than one champion may be worse than the next."""
    if now == judged:
        said = "nobody judges yet" if now is None else f"{now} judges, as when it was held to it"
        return Gate(name="champion", passed=True, figure=now, limit=judged, said=said)
    came = None if deployment is None else _came(deployment, now)
    how = "promoted" if came is not None and came.kind is Kind.PROMOTED else "brought back"
    by = "" if came is None else f", {how} by {came.by} {when(came.at)}"
    return Gate(
        name="champion", passed=False, figure=now, limit=judged, said=f"the champion is now {now}{by}: judge again"
    )


def no_probation(deployment: Deployment, now: datetime) -> Gate:
    """One trial at a time: a challenger would take the former champion's place beside the one on probation."""
    until = deployment.probation_until
    if until is None or until <= now:
        return Gate(name="probation", passed=True, said="the champion is not on probation")
    return Gate(
        name="probation",
        passed=False,
        said=f"the champion is on probation until {until:%Y-%m-%d %H:%M:%S}: wait for it",
    )


def when(moment: datetime) -> str:
    """In a sentence."""
    return f"on {moment:%Y-%m-%d at %H:%M}"


def _came(deployment: Deployment, champion: str | None) -> Change | None:
    """The change that made it the champion, where it is remembered."""
    for change in reversed(deployment.changes):
        if champion == {Kind.PROMOTED: change.bundle, Kind.ROLLED_BACK: change.instead_of}.get(change.kind):
            return change
    return None
