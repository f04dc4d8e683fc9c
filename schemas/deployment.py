"""Which models judge: what `models` carries, a compacted topic of one partition.

Under the registered model's name lies the Deployment; under `<model>/<worker>` what that worker makes of it.  Whoever
changes a deployment (`training promote`, a worker whose guard is broken) writes the next one whole, so that nobody can
see half a change.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.wire import Moment, decode

KEPT = 100
"""Changes that a deployment remembers."""
PROBATION = timedelta(minutes=10)
"""How long a new champion is on probation, unless somebody says otherwise."""
ANNOUNCED_EVERY = 20.0
"""Seconds after which a worker says again what it serves; one that is silent for three times as long is gone."""


class Role(StrEnum):
    """What a bundle is there for."""

    CHAMPION = "champion"
    """It judges."""
    CHALLENGER = "challenger"
    """It scores the same transactions, and judges its share of the accounts."""
    FORMER = "former"
    """The champion before: scores along while the new one is on probation."""


class Kind(StrEnum):
    """What was done."""

    PROMOTED = "promoted"
    """Another champion."""
    CHALLENGED = "challenged"
    """Another challenger, or another share of the accounts."""
    WITHDRAWN = "withdrawn"
    """No challenger any more, by somebody's wish."""
    ROLLED_BACK = "rolled-back"
    """Somebody, or a guard, sent the newest one back: the challenger, or the champion where there is none."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bundle, and what the registry calls it."""

    bundle: Annotated[str, msgspec.Meta(max_length=128)]
    version: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    """Of the registered model; None: it was never registered."""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of a deployment."""

    number: int
    kind: Kind
    at: Moment
    by: str
    """Who: `worker 0 of fraud-scorer`, or user and host."""
    why: str
    bundle: str
    """Which came or went."""
    instead_of: str | None = None
    """The champion before."""
    forced: bool = False
    """Gates refused it, and somebody insisted: `why` names them."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which models judge from here on."""

    number: int
    """Of the change that made it: each is one more."""
    champion: Model
    challenger: Model | None = None
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Of the accounts: the challenger judges these; 0: none, it only scores along."""
    former: Model | None = None
    """The champion before: where a rollback goes."""
    probation_until: Moment | None = None
    """Until then a broken guard sends the champion back."""
    changes: tuple[Change, ...] = ()
    """The newest last; older ones than KEPT are forgotten here, and stand in the registry."""

    def sent_back(self, bundle: str) -> Change | None:
        """The rollback that sent this bundle away, if nothing has brought it back since."""
        for change in reversed(self.changes):
            if change.bundle == bundle:
                return change if change.kind is Kind.ROLLED_BACK else None
        return None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that a worker doesn't serve, and why."""

    bundle: str
    why: str


class Serving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker serves, in its own words; a null value: it has stopped."""

    worker: str
    """Group and slot, as `fraud-scorer-0`."""
    catalogue: str
    deployment: int
    """The number of the one that it has taken up; 0: none yet."""
    champion: str
    challenger: str | None = None
    refused: tuple[Refusal, ...] = ()
    at: Moment


_deployment = msgspec.json.Decoder(Deployment)
_serving = msgspec.json.Decoder(Serving)


def decode_deployment(value: bytes | None) -> Deployment:
    """Raises BadMessage."""
    return decode(_deployment, value)


def decode_serving(value: bytes | None) -> Serving:
    """Raises BadMessage."""
    return decode(_serving, value)


def promoted(
    before: Deployment | None, model: Model, *, at: Moment, by: str, why: str, former: Model | None = None,
    probation_until: Moment | None = None, forced: bool = False,
) -> Deployment:  # fmt: skip
    """With `model` as the champion; the one before becomes the former, or `former` where nothing was deployed yet.

    A challenger goes: on probation the new champion is held to the former one, and a challenger would be to one that is
    untried.
    """
    if before is not None:
        former = before.champion if before.champion != model else before.former
    if former == model:
        former = None
    after = Deployment(
        number=0,
        champion=model,
        former=former,
        probation_until=probation_until if former is not None else None,
    )
    return _next(
        before, after, kind=Kind.PROMOTED, at=at, by=by, why=why, bundle=model.bundle,
        instead_of=None if former is None else former.bundle, forced=forced,
    )  # fmt: skip


def challenged(
    before: Deployment, model: Model, share: float, *, at: Moment, by: str, why: str, forced: bool = False
) -> Deployment:
    """With `model` as the challenger, which judges this share of the accounts.

    Raises ValueError where it is the champion, or the champion is on probation; `forced` ends that.
    """
    if model.bundle == before.champion.bundle:
        raise ValueError(f"bundle {model.bundle} is the champion: it can't be its own challenger")
    if before.probation_until is not None and before.probation_until > at and not forced:
        raise ValueError(
            f"champion {before.champion.bundle} is on probation until {before.probation_until:%Y-%m-%d %H:%M:%S %Z}: until "
            "then it is held to the former one, and a challenger would be held to one that is untried"
        )
    after = msgspec.structs.replace(before, challenger=model, share=share, probation_until=None)
    return _next(before, after, kind=Kind.CHALLENGED, at=at, by=by, why=why, bundle=model.bundle, forced=forced)


def withdrawn(before: Deployment, *, at: Moment, by: str, why: str) -> Deployment:
    """Without its challenger.  Raises ValueError where there is none."""
    if before.challenger is None:
        raise ValueError("there is no challenger to withdraw")
    after = msgspec.structs.replace(before, challenger=None, share=0.0)
    return _next(before, after, kind=Kind.WITHDRAWN, at=at, by=by, why=why, bundle=before.challenger.bundle)


def rolled_back(before: Deployment, bundle: str, *, at: Moment, by: str, why: str) -> Deployment:
    """Without `bundle`: the challenger goes, or the former champion comes back in the champion's place.

    Raises ValueError where it is neither the one nor the other, or nobody is there to come back.
    """
    if before.challenger is not None and before.challenger.bundle == bundle:
        after = msgspec.structs.replace(before, challenger=None, share=0.0)
        return _next(before, after, kind=Kind.ROLLED_BACK, at=at, by=by, why=why, bundle=bundle)
    if before.champion.bundle != bundle:
        raise ValueError(f"bundle {bundle} is neither champion nor challenger")
    if before.former is None:
        raise ValueError(f"there is no champion before {bundle} to go back to")
    after = msgspec.structs.replace(before, champion=before.former, former=None, probation_until=None)
    return _next(
        before, after, kind=Kind.ROLLED_BACK, at=at, by=by, why=why, bundle=bundle, instead_of=before.former.bundle
    )


def _next(
    before: Deployment | None, after: Deployment, *, kind: Kind, at: Moment, by: str, why: str, bundle: str,
    instead_of: str | None = None, forced: bool = False,
) -> Deployment:  # fmt: skip
    if after.challenger is not None and after.challenger.bundle == after.champion.bundle:  # a rollback to it
        after = msgspec.structs.replace(after, challenger=None, share=0.0)
    number = 1 if before is None else before.number + 1
    change = Change(
        number=number, kind=kind, at=at, by=by, why=why, bundle=bundle, instead_of=instead_of, forced=forced
    )
    changes = () if before is None else before.changes
    return msgspec.structs.replace(after, number=number, changes=(*changes, change)[-KEPT:])
