"""Options that several commands of `training` have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from schemas import installation
from training.settings import Policy

Value = TypeVar("Value")


def own(of: Callable[[str], Value]) -> Callable[[typer.Context, typer.CallbackParam, Value], Value]:
    """An option's callback: what nobody said is what `of` makes of the topic prefix, so that no two installations share it."""

    def chosen(context: typer.Context, parameter: typer.CallbackParam, value: Value) -> Value:
        source = context.get_parameter_source(str(parameter.name))
        if source is None or source.name != "DEFAULT":
            return value
        from features.settings import Settings, load  # noqa: PLC0415 - `--help` need not wait for it

        return of(load(Settings, os.environ).topic_prefix)

    return chosen


PastArgument = Annotated[
    str,
    typer.Argument(
        help="An archive, or ARCHIVE@VERSION as `training archive show` names it; a folder that `loadgen simulate` wrote; "
        "or a Parquet or CSV file with a --mapping."
    ),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        envvar="FRAUD_TRAINING_MAPPING",
        help="Which column is what: a mapping.toml, or the name of one in schemas/mappings.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        envvar="FRAUD_TRAINING_UNTIL",
        help="The training's date, as 2026-07-01T00:00:00Z: nothing known later is used. Default: the past's end.",
    ),
]
DelayOption = Annotated[
    str | None,
    typer.Option(
        envvar="FRAUD_TRAINING_LABEL_DELAY",
        help="After this a label may be expected, and is known where a table doesn't say when; younger transactions are "
        "unknown, not genuine. "
        "Default: the mapping's, or 7d.",
    ),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(
        envvar="FRAUD_TRAINING_VALIDATION",
        help="How much of the newest known part is kept from the fit: its older half chooses thresholds and the like, its newer "
        "half judges. Default: three tenths, at most 14d.",
    ),
]
FoldsOption = Annotated[
    int,
    typer.Option(
        envvar="FRAUD_TRAINING_FOLDS",
        help="At how many earlier dates the same is fitted and judged as well; each takes as long as the fit.",
    ),
]
SeedOption = Annotated[int, typer.Option(envvar="FRAUD_TRAINING_SEED")]
ThreadsOption = Annotated[
    int, typer.Option(envvar="FRAUD_TRAINING_THREADS", help="0: one a core. The bundle is the same either way.")
]
DaskOption = Annotated[
    str,
    typer.Option(
        envvar="FRAUD_TRAINING_DASK",
        help="The scheduler of a Dask cluster, as tcp://HOST:PORT: its processes describe the past and fit LightGBM.",
    ),
]
AttributesOption = Annotated[
    str,
    typer.Option(
        envvar="FRAUD_TRAINING_ATTRIBUTES",
        help="Columns that are learnt from beside the catalogue, as channel,attributes.tip; `all` or `none`.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report to stdout, as JSON.")]

MLflowOption = Annotated[bool, typer.Option("--mlflow/--no-mlflow", envvar="FRAUD_MLFLOW", help="Tell MLflow of it.")]
UriOption = Annotated[
    str,
    typer.Option(
        "--mlflow-uri",
        envvar="FRAUD_MLFLOW_URI",
        help="Where MLflow is: sqlite:///FILE, http://HOST:PORT or postgresql://…",
    ),
]
ArtifactsOption = Annotated[
    str,
    typer.Option(
        "--mlflow-artifacts",
        envvar="FRAUD_MLFLOW_ARTIFACTS",
        help="Where bundles go: a folder or s3://BUCKET/FOLDER. Default: beside SQLite's file; where the server says.",
    ),
]
_OWN = " The topic prefix goes before the default's last part."
ExperimentOption = Annotated[
    str,
    typer.Option(
        "--mlflow-experiment",
        envvar="FRAUD_MLFLOW_EXPERIMENT",
        help=f"What MLflow calls the runs.{_OWN}",
        callback=own(installation.model),
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--mlflow-model",
        envvar="FRAUD_MLFLOW_MODEL",
        help=f"The registered model that gets a version.{_OWN}",
        callback=own(installation.model),
    ),
]
PendingOption = Annotated[
    Path,
    typer.Option(
        "--mlflow-pending",
        envvar="FRAUD_MLFLOW_PENDING",
        help=f"Where runs wait for an MLflow that is away.{_OWN}",
        callback=own(installation.pending),
    ),
]

OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        envvar="FRAUD_TRAINING_OUT",
        help=f"The folder of bundles.{_OWN}",
        callback=own(installation.bundles),
    ),
]
WhatArgument = Annotated[
    str,
    typer.Argument(help="A bundle's digest, a version (7) or an alias (champion); or a bundle's folder in --out."),
]
ForceOption = Annotated[
    str | None,
    typer.Option("--force", metavar="WHY", help="Past gates that were not passed, for this reason; it is put down."),
]
ProbationOption = Annotated[
    str,
    typer.Option(
        "--probation",
        envvar="FRAUD_PROMOTE_PROBATION",
        help="For so long the former champion scores along, and a broken guard brings it back; 0s: not at all.",
    ),
]
PrecisionToleranceOption = Annotated[
    float,
    typer.Option(
        "--ap-tolerance",
        envvar="FRAUD_PROMOTE_AP_TOLERANCE",
        min=0,
        help="How far the interval of the difference in average precision may reach below 0.",
    ),
]
CostToleranceOption = Annotated[
    float,
    typer.Option(
        "--cost-tolerance",
        envvar="FRAUD_PROMOTE_COST_TOLERANCE",
        min=0,
        help="How much dearer it may be than the champion, as a share of its cost; surely dearer it must not be at all.",
    ),
]
LeastFraudsOption = Annotated[
    int,
    typer.Option(
        "--least-frauds", envvar="FRAUD_PROMOTE_LEAST_FRAUDS", min=1, help="Fewer among the rows say nothing."
    ),
]
LatencyBudgetOption = Annotated[
    float,
    typer.Option(
        "--latency-budget", envvar="FRAUD_PROMOTE_LATENCY_BUDGET", min=0, help="Milliseconds for 256 vectors, at most."
    ),
]
MissedShareOption = Annotated[
    float,
    typer.Option(
        envvar="FRAUD_TRAINING_COST_MISSED_SHARE", help="What a missed fraud costs, as a share of its amount."
    ),
]
MissedFixedOption = Annotated[
    float,
    typer.Option(
        envvar="FRAUD_TRAINING_COST_MISSED_FIXED",
        help="What it costs besides, in minor units (cents) of FRAUD_CURRENCY, as the next two are.",
    ),
]
ReviewOption = Annotated[float, typer.Option(envvar="FRAUD_TRAINING_COST_REVIEW", help="What a review costs.")]
WrongDeclineOption = Annotated[
    float, typer.Option(envvar="FRAUD_TRAINING_COST_WRONG_DECLINE", help="What a genuine payment declined costs.")
]

ThresholdsByOption = Annotated[
    Policy,
    typer.Option(
        envvar="FRAUD_TRAINING_THRESHOLDS_BY",
        help="`precision`: the most recall within the bounds; `capacity`: as many alerts as it allows; `cost`: the "
        "least; `champion`: as many as by the champion on the same rows, `precision` where there is none.",
    ),
]
ReviewShareOption = Annotated[
    float,
    typer.Option(envvar="FRAUD_TRAINING_REVIEW_SHARE", help="Alerts at most, as a share of the transactions."),
]
ReviewPerDayOption = Annotated[
    float | None,
    typer.Option(envvar="FRAUD_TRAINING_REVIEW_PER_DAY", help="Alerts a day at most, instead of the share."),
]
ReviewPrecisionOption = Annotated[
    float,
    typer.Option(envvar="FRAUD_TRAINING_REVIEW_PRECISION", help="Share of frauds among the alerts, at least."),
]
DeclinePrecisionOption = Annotated[
    float,
    typer.Option(envvar="FRAUD_TRAINING_DECLINE_PRECISION", help="Share of frauds among the declined, at least."),
]
