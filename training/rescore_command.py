"""`training rescore`: which model said so, and whether it says so still."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from features.settings import Settings, load
from schemas import installation
from training.errors import Refused
from training.narration import OnConsole
from training.options import ArtifactsOption, JsonOption, ModelOption, UriOption, own
from training.promote_commands import DEFAULTS, MLFLOW
from training.tracking import Tracking

if TYPE_CHECKING:
    from training.rescoring import Rescored


def rescore(
    transaction_id: Annotated[str, typer.Argument(help="Of the transaction that was judged.")],
    account: Annotated[
        str | None, typer.Option(help="Its account_id: only one partition is looked through, which is quicker.")
    ] = None,
    bundles: Annotated[
        Path,
        typer.Option(
            envvar="FRAUD_TRAINING_OUT",
            help="The folder of bundles. The topic prefix goes before the default's last part.",
            callback=own(installation.bundles),
        ),
    ] = DEFAULTS.out,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_model: ModelOption = MLFLOW.model,
    as_json: JsonOption = False,
) -> None:
    """Compute a verdict's score once more, from its vector and its bundle.  Status 1 where a bit is different.

    For example:  training rescore tx-000123 --account acct-000045
    """
    from training.registered import fetch_bundle
    from training.rescoring import find
    from training.rescoring import rescore as compute

    settings = load(Settings, os.environ)
    tracking = Tracking(uri=mlflow_uri, artifacts=mlflow_artifacts, model=mlflow_model)
    with OnConsole(Console(stderr=True)) as narrator:
        narrator.stage("find", f"looking for the verdict on {transaction_id}")
        verdict, alert = find(settings, transaction_id, account, narrator.progress)
        narrator.stage("fetch", f"looking for bundle {verdict.bundle}")
        found = compute(verdict, alert, fetch_bundle(tracking, verdict.bundle, bundles))
    if as_json:
        said = msgspec.to_builtins(found) | {"same": found.same}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n")
    else:
        _show(found)
    if not found.same:
        raise Refused(f"the verdict on {transaction_id} is not what bundle {found.bundle} says of its vector")


def _show(found: Rescored) -> None:
    console = Console(highlight=False, soft_wrap=True)
    thresholds = found.thresholds
    again = "by the worker's own thresholds" if found.outcome_again is None else str(found.outcome_again)
    lines = [
        f"transaction {found.transaction_id} of account {found.account_id}",
        f"bundle      {found.bundle}{', as the challenger: the account is one of its share' if found.canary else ''}",
        f"policy      {found.policy}",
        f"thresholds  of the bundle: review from {thresholds.review:.4g}, decline from {thresholds.decline:.4g}",
        f"vector      {'has the digest of the verdict' if found.vector_same else 'is NOT the one of the verdict'}",
        f"margin      {found.margin!r}, again {found.margin_again!r}",
        f"score       {found.score!r}, again {found.score_again!r}",
        f"outcome     {found.outcome}, again {again}",
    ]
    if found.shadow is not None:
        lines.append(f"beside it   {found.shadow.bundle} said {found.shadow.score!r}")
    lines += [f"because     {reason.text or reason.meaning} ({reason.contribution:+.3f})" for reason in found.reasons]
    lines.append("the same, bit for bit" if found.same else "NOT the same")
    for line in lines:
        console.print(line, markup=False)
