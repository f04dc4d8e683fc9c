"""`training models`: what is deployed, who serves it, and what became of each bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from schemas.bundle import MANIFEST, Manifest
from schemas.deployment import Change, Deployment, Kind, Model, Refusal, Serving
from training.errors import MLflowAway, Refused
from training.narration import Silent
from training.options import ArtifactsOption, JsonOption, MLflowOption, ModelOption, OutOption, UriOption
from training.promote_commands import DEFAULTS, MLFLOW
from training.tracking import Tracking

if TYPE_CHECKING:
    from training.deploying import Deployer

_LAST = 10
_MOMENT = "%Y-%m-%d %H:%M:%S"
_decoder = msgspec.json.Decoder(Manifest)


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of one bundle."""

    bundle: str
    role: str | None
    """What it is deployed as; None: it isn't."""
    folder: str | None
    """Where it lies; None: not here."""
    versions: tuple[str, ...]
    """Of the registered model, the newest first."""
    mlflow: str | None
    """Why MLflow can't say which versions it is."""
    changes: tuple[Change, ...]
    """That it came by, or made room for another by; the newest last."""
    serving: tuple[str, ...]
    """Workers that judge by it now."""
    refused: dict[str, str]
    """Why, by worker."""
    trained: dict[str, str | int | float]
    metrics: dict[str, float]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger's time beside the champion."""

    bundle: str
    since: datetime
    ended: Change | None = None
    """By which change; None: it goes on."""


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """What is deployed of the registered model."""

    model: str
    deployment: Deployment | None
    trials: tuple[Trial, ...]
    """Of challengers, as far as changes are remembered; the newest last."""
    serving: tuple[Serving, ...]
    """What the workers that run said last."""
    silent: tuple[str, ...]
    """Workers that have said nothing for a minute, and no goodbye."""


def models(
    bundle: Annotated[str | None, typer.Argument(help="One bundle's digest: all that is known of it.")] = None,
    mirrored: Annotated[
        bool,
        typer.Option("--mirror", help="Set MLflow's aliases as it is deployed, where they wait or were left behind."),
    ] = False,
    out: OutOption = DEFAULTS.out,
    mlflow: MLflowOption = True,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_model: ModelOption = MLFLOW.model,
    as_json: JsonOption = False,
) -> None:
    """Which models judge, since when, who serves them, what was refused and what was changed; or one bundle's life.

    For example:  training models 97fb07a767b178c0
    """
    from training.promote_commands import deployer_of
    from training.registered import mirror

    tracking = Tracking(uri=mlflow_uri, artifacts=mlflow_artifacts, model=mlflow_model) if mlflow else None
    deployer = deployer_of(tracking, mlflow_model, out, Silent())
    deployment = deployer.deployments.latest()
    if mirrored:
        if deployment is None or tracking is None:
            raise Refused("there is nothing to mirror: nothing was ever deployed, or MLflow is left out")
        mirror(tracking, deployment)
    if bundle is None:
        found = _models(deployer, deployment, mlflow_model)
        _print(found) if as_json else _show(found)
    else:
        life = _life(deployer, deployment, bundle)
        _print(life) if as_json else _tell(life)


def _models(deployer: Deployer, deployment: Deployment | None, model: str) -> Models:
    live = {one.worker for one in deployer.live()}
    said = deployer.deployments.serving()
    return Models(
        model=model,
        deployment=deployment,
        trials=() if deployment is None else trials_of(deployment),
        serving=tuple(one for one in said if one.worker in live),
        silent=tuple(one.worker for one in said if one.worker not in live),
    )


def trials_of(deployment: Deployment) -> tuple[Trial, ...]:
    """A trial begins with a challenger, goes on with another share, and ends when it goes, or any model is promoted."""
    found: list[Trial] = []
    on: Trial | None = None
    for change in deployment.changes:
        back = change.kind in (Kind.WITHDRAWN, Kind.ROLLED_BACK)
        goes = back and on is not None and on.bundle in (change.bundle, change.instead_of)
        comes = change.kind is Kind.CHALLENGED and (on is None or change.bundle != on.bundle)
        if on is not None and (goes or comes or change.kind is Kind.PROMOTED):
            found.append(msgspec.structs.replace(on, ended=change))
            on = None
        if comes:
            on = Trial(bundle=change.bundle, since=change.at)
    return (*found, *([] if on is None else [on]))


def _life(deployer: Deployer, deployment: Deployment | None, bundle: str) -> Life:
    from training.registered import versions_of

    folder, versions, away = deployer.out / bundle, list[str](), None
    if deployer.tracking is not None:
        try:
            versions = versions_of(deployer.tracking, bundle)
        except MLflowAway as error:
            away = str(error)
    manifest = _manifest(folder)
    live = deployer.live()
    changes = () if deployment is None else deployment.changes
    found = Life(
        bundle=bundle,
        role=None if deployment is None else _role(deployment, bundle),
        folder=str(folder) if folder.is_dir() else None,
        versions=tuple(versions),
        mlflow=away,
        changes=tuple(change for change in changes if bundle in (change.bundle, change.instead_of)),
        serving=tuple(one.worker for one in live if one.champion == bundle),
        refused={one.worker: refusal.why for one in live for refusal in one.refused if refusal.bundle == bundle},
        trained={} if manifest is None else manifest.trained,
        metrics={} if manifest is None else manifest.metrics,
    )
    if not (found.folder or found.versions or found.changes or found.role):
        raise Refused(f"nothing is known of bundle {bundle}: not in {deployer.out}, not on `models`, not in MLflow")
    return found


def _manifest(folder: Path) -> Manifest | None:
    try:
        return _decoder.decode((folder / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _role(deployment: Deployment, bundle: str) -> str | None:
    named = {"champion": deployment.champion, "challenger": deployment.challenger, "former": deployment.former}
    return next((role for role, model in named.items() if model is not None and model.bundle == bundle), None)


def _print(what: Models | Life) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(what), indent=2).decode() + "\n")


def _show(found: Models) -> None:
    say = _printer()
    deployment = found.deployment
    if deployment is None:
        say(f"nothing was ever deployed of {found.model}: each worker serves what its own bundle setting names")
    else:
        say(f"champion    {_named(deployment.champion)}, change {deployment.number}{_since(deployment)}")
        if deployment.challenger is not None:
            say(f"challenger  {_named(deployment.challenger)}, {_share(deployment)}{_trial_since(found)}")
        if deployment.former is not None:
            say(f"former      {_named(deployment.former)}")
        if deployment.probation_until is not None:
            say(f"probation   {_probation(deployment.probation_until)}")
    for one in found.serving:
        beside = "" if one.challenger is None else f", tries {one.challenger}"
        say(f"  {one.worker} serves {one.champion}{beside}, change {one.deployment}, said {one.at:%H:%M:%S}")
        for refusal in one.refused:
            say(f"    {_refused(refusal)}")
    for worker in found.silent:
        say(f"  {worker} has said nothing for a minute")
    for trial in found.trials[-_LAST:]:
        if trial.ended is not None:
            say(
                f"  trial of {trial.bundle}, {trial.since:{_MOMENT}} to {trial.ended.at:{_MOMENT}}: {_end(trial.ended)}"
            )
    for change in () if deployment is None else deployment.changes[-_LAST:]:
        say(_changed(change))


def _tell(life: Life) -> None:
    say = _printer()
    say(f"bundle      {life.bundle}{'' if life.role is None else f', the {life.role}'}")
    say(f"lies in     {life.folder or 'MLflow alone: `training fetch` brings it'}")
    say(f"versions    {', '.join(life.versions) or 'none'}{'' if life.mlflow is None else f' ({life.mlflow})'}")
    say(f"judges at   {', '.join(life.serving) or 'no worker'}")
    for worker, why in life.refused.items():
        say(f"refused by  {worker}: {why}")
    for name, value in (life.trained | life.metrics).items():
        say(f"  {name:38s} {value if isinstance(value, str) else format(value, '.5g')}")
    for change in life.changes:
        say(_changed(change))


def _printer() -> Callable[[str], None]:
    console = Console(highlight=False, soft_wrap=True)
    return lambda line: console.print(line, markup=False)


def _named(model: Model) -> str:
    return model.bundle if model.version is None else f"{model.bundle} (version {model.version})"


def _since(deployment: Deployment) -> str:
    for change in reversed(deployment.changes):
        if deployment.champion.bundle in (change.bundle, change.instead_of):
            return f", since {change.at:%Y-%m-%d %H:%M:%S}"
    return ""


def _share(deployment: Deployment) -> str:
    return f"judges {deployment.share:.1%} of the accounts" if deployment.share else "scores along"


def _trial_since(found: Models) -> str:
    """Nothing where the change that began it is forgotten."""
    on = [trial.since for trial in found.trials if trial.ended is None]
    return "".join(f", on trial since {since:{_MOMENT}}" for since in on)


def _probation(until: datetime) -> str:
    if until <= datetime.now(UTC):
        return f"of the champion, over since {until:{_MOMENT}}"
    return f"of the champion, until {until:{_MOMENT}}; the former one scores along"


def _end(change: Change) -> str:
    """What ended a trial."""
    what = f"{change.kind}" if change.kind in (Kind.WITHDRAWN, Kind.ROLLED_BACK) else f"{change.bundle} {change.kind}"
    return f"{what} by {change.by}: {change.why}"


def _refused(refusal: Refusal) -> str:
    return f"refuses {refusal.bundle}: {refusal.why}"


def _changed(change: Change) -> str:
    forced = " by force" if change.forced else ""
    instead = (
        "" if change.instead_of is None else f", {'after' if change.kind == 'promoted' else 'for'} {change.instead_of}"
    )
    return (
        f"{change.number:>4}  {change.at:%Y-%m-%d %H:%M:%S}  {change.bundle} {change.kind}{forced}{instead}, "
        f"by {change.by}: {change.why}"
    )
