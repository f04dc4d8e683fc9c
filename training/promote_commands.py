"""`training promote`, `challenge`, `rollback`: what is deployed, changed by hand."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from features.settings import Settings, load
from schemas.deployment import PROBATION
from schemas.errors import UnusableModel, WrongSettings
from schemas.spans import duration
from training.costs import Costs
from training.errors import Refused, TooFew
from training.gate_limits import Limits
from training.narration import Narrator, OnConsole
from training.options import (
    ArtifactsOption,
    CostToleranceOption,
    ForceOption,
    JsonOption,
    LatencyBudgetOption,
    LeastFraudsOption,
    MappingOption,
    MissedFixedOption,
    MissedShareOption,
    MLflowOption,
    ModelOption,
    OutOption,
    PrecisionToleranceOption,
    ProbationOption,
    ReviewOption,
    UriOption,
    WhatArgument,
    WrongDeclineOption,
)
from training.settings import TrainingSettings
from training.tracking import Tracking

if TYPE_CHECKING:
    from schemas.mapping import TableMapping
    from training.deploying import Changed, Deployer, Found
    from training.gate import Gate

DEFAULTS = TrainingSettings()
MLFLOW = Tracking()
LIMITS = Limits()
USUAL_PROBATION = f"{PROBATION // timedelta(minutes=1)}m"


def promote(
    what: WhatArgument,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="PAST",
            help="Judge it and the champion by the newest rows of this past, as for `training run`.",
        ),
    ] = None,
    mapping: MappingOption = None,
    label_delay: Annotated[
        str | None,
        typer.Option(
            envvar="FRAUD_TRAINING_LABEL_DELAY",
            help="After this a label may be expected; younger transactions say nothing. Default: as it was learnt with.",
        ),
    ] = None,
    out: OutOption = DEFAULTS.out,
    force: ForceOption = None,
    probation: ProbationOption = USUAL_PROBATION,
    ap_tolerance: PrecisionToleranceOption = LIMITS.precision_tolerance,
    cost_tolerance: CostToleranceOption = LIMITS.cost_tolerance,
    least_frauds: LeastFraudsOption = LIMITS.least_frauds,
    latency_budget: LatencyBudgetOption = 1e3 * LIMITS.latency_budget,
    cost_missed_share: MissedShareOption = DEFAULTS.cost_missed_share,
    cost_missed_fixed: MissedFixedOption = DEFAULTS.cost_missed_fixed,
    cost_review: ReviewOption = DEFAULTS.cost_review,
    cost_wrong_decline: WrongDeclineOption = DEFAULTS.cost_wrong_decline,
    mlflow: MLflowOption = True,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_model: ModelOption = MLFLOW.model,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle the champion, if it passes every gate; the workers swap to it within seconds.  Status 1 where it doesn't.

    For example:  training promote 7 --on .local/archive
    """
    from schemas.mapping import load_mapping

    limits = Limits(
        precision_tolerance=ap_tolerance,
        cost_tolerance=cost_tolerance,
        least_frauds=least_frauds,
        latency_budget=latency_budget / 1e3,
    )
    costs = Costs(
        missed_share=cost_missed_share,
        missed_fixed=cost_missed_fixed,
        review=cost_review,
        wrong_decline=cost_wrong_decline,
    )
    kept = duration(probation)
    meant = None if mapping is None else load_mapping(mapping)
    delay = None if label_delay is None else duration(label_delay)
    with OnConsole(Console(stderr=True)) as narrator:
        deployer = deployer_of(
            _tracking(mlflow, mlflow_uri, mlflow_artifacts, mlflow_model), mlflow_model, out, narrator
        )
        found = deployer.find(what)
        changed = deployer.already(found)
        if changed is None:
            judged = deployer.champion()
            gates = (
                *_quality(deployer, found, judged, on, meant, delay, costs, limits, narrator),
                *deployer.service_gates(found, limits),
            )
            changed = deployer.promote(found, gates, judged=judged, probation=kept, force=force)
    conclude(changed, "promoted", as_json=as_json)


def challenge(
    what: Annotated[
        str | None, typer.Argument(help="A bundle's digest, a version or an alias; or a bundle's folder in --out.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the accounts: it judges these. 0: it only scores along.")
    ] = 0.0,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="End the trial of the challenger that there is.")
    ] = False,
    why: Annotated[str, typer.Option(help="Of the withdrawal; it is put down.")] = "no reason was given",
    out: OutOption = DEFAULTS.out,
    force: ForceOption = None,
    latency_budget: LatencyBudgetOption = 1e3 * LIMITS.latency_budget,
    mlflow: MLflowOption = True,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_model: ModelOption = MLFLOW.model,
    as_json: JsonOption = False,
) -> None:
    """Let a bundle score along with the champion, and judge a share of the accounts.  Status 1 where it can't be served.

    For example:  training challenge 8 --share 0.1
    """
    if (what is None) != withdraw:
        raise WrongSettings("say which bundle is to challenge, or --withdraw, and not both")
    limits = Limits(latency_budget=latency_budget / 1e3)
    with OnConsole(Console(stderr=True)) as narrator:
        deployer = deployer_of(
            _tracking(mlflow, mlflow_uri, mlflow_artifacts, mlflow_model), mlflow_model, out, narrator
        )
        if what is None:
            changed = deployer.withdraw(why)
        else:
            found = deployer.find(what)
            changed = deployer.challenge(found, deployer.service_gates(found, limits), share=share, force=force)
    conclude(changed, "withdrawn" if what is None else "the challenger", as_json=as_json)


def rollback(
    bundle: Annotated[
        str | None,
        typer.Argument(metavar="[DIGEST]", help="The challenger or the champion; without it: the one that came last."),
    ] = None,
    why: Annotated[str, typer.Option(help="It is put down.")] = "no reason was given",
    out: OutOption = DEFAULTS.out,
    mlflow: MLflowOption = True,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_model: ModelOption = MLFLOW.model,
    as_json: JsonOption = False,
) -> None:
    """Send the model back that came last: the challenger, or the champion for the one before it.  Status 1 where it is gone.

    For example:  training rollback --why "analysts report a flood of wrong alerts"
    """
    with OnConsole(Console(stderr=True)) as narrator:
        deployer = deployer_of(
            _tracking(mlflow, mlflow_uri, mlflow_artifacts, mlflow_model), mlflow_model, out, narrator
        )
        changed = deployer.roll_back(why, bundle)
    conclude(changed, "sent back", as_json=as_json)


def deployer_of(tracking: Tracking | None, model: str, out: Path, narrator: Narrator) -> Deployer:
    """By the settings that the workers have too.  Raises WrongSettings."""
    from features.deployments import Deployments
    from training.deploying import Deployer

    return Deployer(Deployments(load(Settings, os.environ), model), tracking, out, narrator)


def _tracking(mlflow: bool, uri: str, artifacts: str, model: str) -> Tracking | None:
    return Tracking(uri=uri, artifacts=artifacts, model=model) if mlflow else None


def _quality(
    deployer: Deployer, found: Found, expected: str | None, on: str | None, mapping: TableMapping | None,
    delay: timedelta | None, costs: Costs, limits: Limits, narrator: Narrator,
) -> tuple[Gate, ...]:  # fmt: skip
    """How good it is beside the champion, which is `expected`; unjudged where that can't be said."""
    from training.comparing import compare
    from training.contender import Contender
    from training.gates import quality, unjudged
    from training.reading import read

    if on is None:
        return unjudged("there are no rows to judge it by: --on names a past")
    rules = load(Settings, os.environ).rules_of_past()
    rates = rules.rates
    past = read(on, mapping, narrator, rules=rules)
    try:
        candidate = Contender.read(found.folder)
        champion = None if expected is None else Contender.read(deployer.champions_folder(expected))
        judgement = compare(
            past, candidate, champion, rates=rates, keys=rules.keys, delay=delay, costs=costs,
            least_frauds=limits.least_frauds, narrator=narrator,
        )  # fmt: skip
    except (TooFew, UnusableModel) as error:
        return unjudged(str(error))
    return quality(judgement, expected=expected, limits=limits)


def conclude(changed: Changed, what: str, *, as_json: bool) -> None:
    """Report what came of it.  Raises Refused where a gate stood in the way."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(changed), indent=2).decode() + "\n")
    else:
        show(changed, what)
    require_passed(changed, what)


def require_passed(changed: Changed, what: str) -> None:
    """Raises Refused, naming each gate that was not passed with its figure."""
    from training.gate import in_words

    if changed.refused:
        raise Refused(f"bundle {changed.bundle} is not {what}: {in_words(changed.gates)}")


def show(changed: Changed, what: str) -> None:
    """For people."""
    console = Console(highlight=False, soft_wrap=True)
    for gate in changed.gates:
        console.print(f"{'passed' if gate.passed else 'NOT passed':10s}  {gate.name:17s}  {gate.said}", markup=False)
    if changed.deployment is None:
        return
    version = "" if changed.version is None else f", version {changed.version},"
    forced = " by force" if changed.forced else ""
    console.print(f"bundle {changed.bundle}{version} is {what}{forced}: change {changed.deployment}", markup=False)
    beside = "" if changed.challenger is None else f", {changed.challenger} challenges it"
    console.print(f"{changed.champion} judges{beside}", markup=False)
    for worker in changed.workers:
        console.print(f"  {worker.worker}: {'has taken it up' if worker.serves else worker.why}", markup=False)
    if not changed.workers:
        console.print("  no worker has said lately that it runs")
    if changed.aliases_wait is not None:
        console.print(
            f"MLflow's aliases wait: {changed.aliases_wait}; `training models --mirror` sets them later", markup=False
        )
