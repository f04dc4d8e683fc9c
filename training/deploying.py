"""What is deployed, changed from here: the topic `models` first, which counts, and whatever follows it.

the topic `models`     what the workers serve
`current`              what a worker begins with where Kafka says nothing
MLflow's aliases       for people; they wait where MLflow is away
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from features.deployments import Deployments, Update
from schemas.bundle import CURRENT, MANIFEST, make_current
from schemas.deployment import (
    ANNOUNCED_EVERY,
    Change,
    Deployment,
    Kind,
    Model,
    Serving,
    challenged,
    promoted,
    rolled_back,
    withdrawn,
)
from schemas.errors import LogUnavailable, UnusableModel
from training.errors import MLflowAway, Refused
from training.gate import Gate, in_words, no_probation, not_sent_back, still_champion, when
from training.gate_limits import Limits
from training.narration import Narrator
from training.registered import fetch_bundle, is_digest, mirror, registered, versions_of
from training.tracking import Tracking

_LIVE = timedelta(seconds=3 * ANNOUNCED_EVERY)
_PATIENCE = 15.0
"""Seconds for the workers to take up what was changed."""
_ASKED_EVERY = 1.0
"""Seconds; the whole topic is read each time."""
NOTHING_DEPLOYED = "nothing was ever deployed; `training promote` makes a champion"
_COMING = (Kind.PROMOTED, Kind.CHALLENGED)
_DID = {
    Kind.PROMOTED: "promoted {}",
    Kind.CHALLENGED: "let {} challenge",
    Kind.WITHDRAWN: "withdrew {}",
    Kind.ROLLED_BACK: "sent {} back",
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A bundle that lies in the folder of bundles."""

    folder: Path
    model: Model


class TakenUp(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker made of a change."""

    worker: str
    serves: bool
    """It has taken the change up, and serves the bundle that came with it."""
    why: str | None = None
    """It refuses the bundle; or it said nothing in time."""


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What a command came to."""

    bundle: str
    version: str | None
    gates: tuple[Gate, ...] = ()
    forced: bool = False
    deployment: int | None = None
    """The number of the change; None: nothing was changed."""
    champion: str | None = None
    challenger: str | None = None
    workers: tuple[TakenUp, ...] = ()
    aliases_wait: str | None = None
    """Why MLflow does not have the aliases yet."""

    @property
    def refused(self) -> bool:
        """Whether gates stood in the way."""
        return self.deployment is None and not all(gate.passed for gate in self.gates)


class Deployer:
    """Everything that changes what is deployed goes through here."""

    def __init__(
        self,
        deployments: Deployments,
        tracking: Tracking | None,
        out: Path,
        narrator: Narrator,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`tracking`: None where MLflow is to have no part in it; `out`: the folder of bundles."""
        self.deployments, self.tracking, self.out = deployments, tracking, out
        self._tell, self._clock = narrator, clock

    # What there is.

    def find(self, what: str) -> Found:
        """The bundle of this digest, version or alias, or the one in this folder; fetched where it isn't there.

        Raises UnusableModel, MLflowAway.
        """
        folder = self._named(what)
        if folder is None:
            if self.tracking is None:
                raise UnusableModel(f"there is no bundle {what} in {self.out}, and MLflow is left out")
            self._tell.stage("fetch", f"looking for {what} in {self.out} and at {self.tracking.shown}")
            if not is_digest(what):
                model = registered(self.tracking, what)
                return Found(folder=fetch_bundle(self.tracking, model.bundle, self.out), model=model)
            folder = fetch_bundle(self.tracking, what, self.out)
        return Found(folder=folder, model=Model(bundle=folder.name, version=self._version(folder.name)))

    def _named(self, what: str) -> Path | None:
        """Where it lies in `out` already."""
        if is_digest(what):
            return self.out / what if (self.out / what).is_dir() else None
        folder = Path(what).resolve()
        if what.isdecimal() or not (folder.is_dir() and ("/" in what or (folder / MANIFEST).exists())):
            return None
        if folder.parent != self.out.resolve():
            raise UnusableModel(f"{what} does not lie in {self.out}: copy it there, or name that folder with --out")
        return self.out / folder.name

    def _version(self, bundle: str) -> str | None:
        if self.tracking is None:
            return None
        try:
            return next(iter(versions_of(self.tracking, bundle)), None)
        except MLflowAway as error:
            self._tell.warn(f"which version bundle {bundle} is can't be asked: {error}")
            return None

    def champion(self) -> str | None:
        """The bundle that judges: the deployed one, or what `current` names.  Raises LogUnavailable."""
        return self._judging(self.deployments.latest())

    def champions_folder(self, bundle: str) -> Path:
        """Where it lies, or should: fetched where it doesn't, and said where that can't be."""
        if not (self.out / bundle).is_dir() and self.tracking is not None:
            try:
                fetch_bundle(self.tracking, bundle, self.out)
            except (MLflowAway, UnusableModel) as error:
                self._tell.warn(f"the champion, {bundle}, can't be fetched: {error}")
        return self.out / bundle

    def live(self) -> list[Serving]:
        """The workers that have said something lately.  Raises LogUnavailable."""
        return [one for one in self.deployments.serving() if self._clock() - one.at <= _LIVE]

    def service_gates(self, found: Found, limits: Limits) -> tuple[Gate, ...]:
        """Whether it can be served, by the workers that there are.  Raises UnusableModel, LogUnavailable."""
        from training.gates import service, warm_up  # noqa: PLC0415 - whoever asks what is deployed need not wait for it

        self._tell.stage("try", f"trying bundle {found.model.bundle} on its golden rows")
        warm = warm_up(found.folder)  # first: it may end the process that it is loaded in
        return *service(found.folder, self.live(), limits), warm

    # What is changed.

    def already(self, found: Found) -> Changed | None:
        """Where it is the champion there is nothing to change: `current` and the aliases are set once more.

        Raises LogUnavailable.
        """
        deployment = self.deployments.latest()
        if deployment is None or deployment.champion.bundle != found.model.bundle:
            return None
        return self._told(Changed(bundle=found.model.bundle, version=found.model.version), deployment)

    def promote(
        self, found: Found, gates: tuple[Gate, ...], *, judged: str | None, probation: timedelta, force: str | None
    ) -> Changed:
        """Make it the champion, where every gate was passed or somebody insists.  Raises Refused, LogUnavailable.

        `judged`: the champion that it was held to.  Where another one judges by now, that is a gate not passed.
        """
        model, now = found.model, self._clock()

        def all_gates(before: Deployment | None) -> tuple[Gate, ...]:
            still = still_champion(judged, self._judging(before), before)
            return *gates, not_sent_back(model.bundle, before), still

        def make(before: Deployment | None, why: str, forced: bool) -> Deployment:
            return promoted(
                before, model, at=now, by=whoever(), why=why,
                former=None if judged in (None, model.bundle) else Model(bundle=str(judged)),
                probation_until=now + probation if probation else None, forced=forced,
            )  # fmt: skip

        return self._let_in(model, all_gates, make, force)

    def challenge(self, found: Found, gates: tuple[Gate, ...], *, share: float, force: str | None) -> Changed:
        """Make it the challenger, which judges this share of the accounts.  Raises as `promote` does."""
        model, now = found.model, self._clock()

        def all_gates(before: Deployment | None) -> tuple[Gate, ...]:
            return *gates, not_sent_back(model.bundle, before), no_probation(_deployed(before), now)

        def make(before: Deployment | None, why: str, forced: bool) -> Deployment:
            return challenged(_deployed(before), model, share, at=now, by=whoever(), why=why, forced=forced)

        return self._let_in(model, all_gates, make, force)

    def withdraw(self, why: str) -> Changed:
        """Without the challenger.  Raises Refused where there is none, LogUnavailable."""
        now = self._clock()
        return self._carry_out(lambda before: withdrawn(_deployed(before), at=now, by=whoever(), why=why))

    def roll_back(self, why: str, bundle: str | None = None) -> Changed:
        """Without `bundle`, the challenger or the champion; None: the one that came last.

        Raises Refused where it is gone meanwhile, or nothing is there to go back to; LogUnavailable.
        """
        now = self._clock()
        # Once, whatever is deployed by the time of a second attempt: that would be another one.
        wanted = bundle or _newest(self.deployments.latest())

        def update(before: Deployment | None) -> Deployment:
            there = _deployed(before)
            went = _went(there, wanted)
            if went is not None:
                raise ValueError(f"bundle {wanted} is gone already: {_in_words(went)}")
            return rolled_back(there, wanted, at=now, by=whoever(), why=why)

        return self._carry_out(update)

    def _let_in(
        self,
        model: Model,
        all_gates: Callable[[Deployment | None], tuple[Gate, ...]],
        make: Callable[[Deployment | None, str, bool], Deployment],
        force: str | None,
    ) -> Changed:
        """Carried out where all gates are passed by what is deployed in that moment, or somebody insists."""
        gates: tuple[Gate, ...] = ()

        def update(before: Deployment | None) -> Deployment:
            nonlocal gates
            gates = all_gates(before)
            broken = in_words(gates)
            if broken and force is None:
                raise _Stopped
            return make(before, _why(broken, force), bool(broken))

        try:
            changed = self._carry_out(update)
        except _Stopped:
            return Changed(bundle=model.bundle, version=model.version, gates=gates)
        return msgspec.structs.replace(changed, version=model.version, gates=gates)

    def _judging(self, deployment: Deployment | None) -> str | None:
        """The deployed champion, or what `current` names."""
        if deployment is not None:
            return deployment.champion.bundle
        link = self.out / CURRENT
        return link.resolve().name if link.exists() else None

    def _carry_out(self, update: Update) -> Changed:
        self._tell.stage("change", "saying so on `models`, where nothing is in the way")
        once = _Once(update)
        try:
            after = self.deployments.change(once)
        except _Done as done:
            after = done.deployment
        except LogUnavailable as error:
            after = self._made_all_the_same(once, error)
        except ValueError as error:
            raise Refused(f"nothing was changed: {error}") from error
        made = once.made or after.changes[-1]
        return self._told(Changed(bundle=made.bundle, version=None, forced=made.forced), after)

    def _made_all_the_same(self, once: _Once, error: LogUnavailable) -> Deployment:
        """The deployment with the change, where only the acknowledgement was lost.  Raises LogUnavailable, `error` where not."""
        if once.made is None:  # Kafka was away before anything was attempted
            raise error
        try:
            latest = self.deployments.latest()
        except LogUnavailable:
            raise LogUnavailable(f"{error}; it may be changed all the same: `training models` will say") from error
        if latest is None or not once.is_in(latest):
            raise error
        return latest

    def _told(self, changed: Changed, deployment: Deployment) -> Changed:
        """With what follows from the deployment: the aliases, and `current` where its champion is served."""
        champion = deployment.champion.bundle
        waits = self._mirrored(deployment)
        try:
            live, workers = self._taken_up(deployment)
        except LogUnavailable as error:
            raise LogUnavailable(
                f"change {deployment.number} is made; what workers make of it is not known: {error}"
            ) from error
        # What they all refuse they must not begin with either, where Kafka says nothing.
        if (not live or any(one.champion == champion for one in live)) and (self.out / champion).is_dir():
            make_current(self.out / champion)
        return msgspec.structs.replace(
            changed,
            deployment=deployment.number,
            champion=champion,
            challenger=None if deployment.challenger is None else deployment.challenger.bundle,
            workers=workers,
            aliases_wait=waits,
        )

    def _mirrored(self, deployment: Deployment) -> str | None:
        """Why the aliases wait; None: they are set, or MLflow has no part in it."""
        if self.tracking is None:
            return None
        try:
            mirror(self.tracking, deployment)
        except MLflowAway as error:
            return str(error)
        return None

    def _taken_up(self, deployment: Deployment) -> tuple[list[Serving], tuple[TakenUp, ...]]:
        """The live workers, and what each makes of it, as soon as all have said so."""
        self._tell.stage("wait", "waiting for the workers to take it up")
        deadline = time.monotonic() + _PATIENCE
        while True:
            live = self.live()
            found = {one.worker: _taken_up(one, deployment) for one in live}
            said = [one for one in found.values() if one is not None]
            self._tell.progress(len(said), max(len(found), 1))
            if len(said) == len(found) or time.monotonic() > deadline:
                break
            time.sleep(_ASKED_EVERY)
        silent = f"it has not taken it up within {_PATIENCE:.0f} s"
        return live, tuple(one or TakenUp(worker=name, serves=False, why=silent) for name, one in found.items())


class _Stopped(Exception):
    """Gates are in the way."""


class _Done(Exception):
    """The change was made by an attempt before, whose acknowledgement was lost."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__()
        self.deployment = deployment


class _Once:
    """A change that is made once, however often `Deployments.change` asks for it."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self.made: Change | None = None
        """By the last attempt."""

    def __call__(self, before: Deployment | None) -> Deployment:
        if before is not None and self.is_in(before):
            raise _Done(before)
        after = self._update(before)
        self.made = after.changes[-1]
        return after

    def is_in(self, deployment: Deployment) -> bool:
        """Whether it was made, also where others have followed.  Its number says nothing: somebody else may have that."""
        return self.made is not None and _mark(self.made) in map(_mark, deployment.changes)


def _mark(change: Change) -> tuple[Kind, str, str, datetime]:
    return change.kind, change.bundle, change.by, change.at


def _newest(deployment: Deployment | None) -> str:
    """The model that came last: the challenger, unless the champion was promoted after it.  Raises Refused."""
    if deployment is None:
        raise Refused(f"nothing was changed: {NOTHING_DEPLOYED}")
    came = {change.kind: change.number for change in deployment.changes}
    if deployment.challenger is None or came.get(Kind.PROMOTED, 0) > came.get(Kind.CHALLENGED, 0):
        return deployment.champion.bundle
    return deployment.challenger.bundle


def _went(deployment: Deployment, bundle: str) -> Change | None:
    """The change by which it went; None: it is deployed, or never was as far as is remembered."""
    if bundle in (deployment.champion.bundle, deployment.challenger and deployment.challenger.bundle):
        return None
    changes = deployment.changes
    named = [change for change in changes if bundle in (change.bundle, change.instead_of)]
    if not named or named[-1].kind is not Kind.CHALLENGED:
        return named[-1] if named else None
    # A challenger that made room for another model is not named by that change.
    return next((change for change in changes if change.number > named[-1].number and change.kind in _COMING), None)


def _in_words(change: Change) -> str:
    return f"{change.by} {_DID[change.kind].format(change.bundle)} {when(change.at)}: {change.why}"


def _taken_up(worker: Serving, deployment: Deployment) -> TakenUp | None:
    """None: it is not that far yet.  A bundle that is still being fetched is neither served nor refused."""
    champion, challenger = deployment.champion.bundle, deployment.challenger and deployment.challenger.bundle
    refused = [f"{one.bundle}: {one.why}" for one in worker.refused if one.bundle in (champion, challenger)]
    if worker.deployment < deployment.number:
        return None
    if worker.deployment > deployment.number:
        return TakenUp(worker=worker.worker, serves=False, why=f"change {worker.deployment} came after it")
    if refused:
        return TakenUp(worker=worker.worker, serves=False, why="; ".join(refused))
    serves = worker.champion == champion and worker.challenger == challenger
    return TakenUp(worker=worker.worker, serves=True) if serves else None


def _deployed(before: Deployment | None) -> Deployment:
    if before is None:
        raise ValueError(NOTHING_DEPLOYED)
    return before


def _why(broken: str, force: str | None) -> str:
    if force is None:
        return "every gate was passed"
    return f"{force} (past its gates: {broken})" if broken else force


def whoever() -> str:
    """Who changes something, for the record: user and host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
