"""`training run`: a bundle from a past; `tune`: parameters for it; `upload`: what MLflow has not got yet; and all the rest."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from features.settings import Settings, load
from schemas import installation
from schemas.deployment import Model
from schemas.errors import WrongSettings
from schemas.spans import duration, moment

# Read when LightGBM loads its OpenMP: threads that spin while they wait take the cores from Kafka, Redis and workers
# beside us, and then from each other (a fit of 60 s took 270).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from training import archive_commands, backtest_command, ending, promote_commands
from training.errors import MLflowAway
from training.fetching import fetch
from training.gate_limits import Limits
from training.models_command import models
from training.narration import OnConsole
from training.options import (
    ArtifactsOption,
    AttributesOption,
    CostToleranceOption,
    DaskOption,
    DeclinePrecisionOption,
    DelayOption,
    ExperimentOption,
    FoldsOption,
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
    PastArgument,
    PendingOption,
    PrecisionToleranceOption,
    ProbationOption,
    ReviewOption,
    ReviewPerDayOption,
    ReviewPrecisionOption,
    ReviewShareOption,
    SeedOption,
    ThreadsOption,
    ThresholdsByOption,
    UntilOption,
    UriOption,
    ValidationOption,
    WrongDeclineOption,
)
from training.pending import record_of
from training.promote_commands import LIMITS, USUAL_PROBATION, challenge, rollback
from training.rescore_command import rescore
from training.settings import (
    CalibrationMethod,
    Imbalance,
    TrainingSettings,
    VectorsFrom,
    columns,
    learners,
)
from training.tracking import Told, Tracking, tell, upload
from training.tune_command import tune
from training.versions import code_version

if TYPE_CHECKING:
    from training.deploying import Changed
    from training.job import TrainedBundle
    from training.judging import Interval
    from training.validating import Validation

DEFAULTS = TrainingSettings()
MLFLOW = Tracking()

app = typer.Typer(
    name="training",
    help="What is learnt from the past.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def training() -> None:
    """What is learnt from the past."""


app.add_typer(archive_commands.app, name="archive")


@app.command()
def run(
    past: PastArgument,
    mapping: MappingOption = None,
    out: OutOption = DEFAULTS.out,
    vectors: Annotated[
        VectorsFrom,
        typer.Option(
            envvar="FRAUD_TRAINING_VECTORS",
            help="`served`: an archive's, as its verdicts have them, of bundles in --out; rows without are left out.",
        ),
    ] = VectorsFrom.REPLAYED,
    train_until: UntilOption = None,
    label_delay: DelayOption = None,
    validation: ValidationOption = None,
    folds: FoldsOption = DEFAULTS.folds,
    seed: SeedOption = DEFAULTS.seed,
    threads: ThreadsOption = DEFAULTS.threads,
    dask: DaskOption = DEFAULTS.dask,
    learner: Annotated[
        str,
        typer.Option(
            envvar="FRAUD_TRAINING_LEARNER",
            help="lightgbm, xgboost, random-forest or logistic-regression; several, as lightgbm,xgboost, are an ensemble.",
        ),
    ] = ",".join(DEFAULTS.learner),
    learners_file: Annotated[
        Path | None,
        typer.Option(
            "--learners",
            envvar="FRAUD_TRAINING_LEARNERS",
            help="A TOML file of their own parameters, in tables [learners.xgboost].",
        ),
    ] = None,
    said: Annotated[
        list[str] | None,
        typer.Option("--set", help="One such parameter, as xgboost.max_depth=3; goes before the file's. Any number."),
    ] = None,
    imbalance: Annotated[
        Imbalance,
        typer.Option(envvar="FRAUD_TRAINING_IMBALANCE", help="What is done about frauds being rare, inside the fit."),
    ] = DEFAULTS.imbalance,
    imbalance_ratio: Annotated[
        float,
        typer.Option(
            envvar="FRAUD_TRAINING_IMBALANCE_RATIO", help="Genuine transactions to a fraud, by weight or by number."
        ),
    ] = DEFAULTS.imbalance_ratio,
    calibration: Annotated[
        CalibrationMethod,
        typer.Option(
            envvar="FRAUD_TRAINING_CALIBRATION",
            help="How margins become probabilities; auto: by the Brier score, cross-validated.",
        ),
    ] = DEFAULTS.calibration,
    attributes: AttributesOption = "all",
    smoothing: Annotated[
        float,
        typer.Option(
            envvar="FRAUD_TRAINING_SMOOTHING", help="How many transactions a category's own fraud rate must outweigh."
        ),
    ] = DEFAULTS.smoothing,
    smallest_value: Annotated[
        int,
        typer.Option(envvar="FRAUD_TRAINING_SMALLEST_VALUE", help="Transactions that make a category's value known."),
    ] = DEFAULTS.smallest_value,
    most_values: Annotated[
        int, typer.Option(envvar="FRAUD_TRAINING_MOST_VALUES", help="Known values of a category, at most.")
    ] = DEFAULTS.most_values,
    trees: Annotated[int, typer.Option(envvar="FRAUD_TRAINING_TREES", help="At most.")] = DEFAULTS.trees,
    leaves: Annotated[int, typer.Option(envvar="FRAUD_TRAINING_LEAVES", help="Of a tree, at most.")] = DEFAULTS.leaves,
    learning_rate: Annotated[float, typer.Option(envvar="FRAUD_TRAINING_LEARNING_RATE")] = DEFAULTS.learning_rate,
    smallest_leaf: Annotated[
        int, typer.Option(envvar="FRAUD_TRAINING_SMALLEST_LEAF", help="Transactions in a leaf, at least.")
    ] = DEFAULTS.smallest_leaf,
    l2: Annotated[float, typer.Option(envvar="FRAUD_TRAINING_L2")] = DEFAULTS.l2,
    feature_share: Annotated[
        float, typer.Option(envvar="FRAUD_TRAINING_FEATURE_SHARE", help="Of the features that each tree may ask.")
    ] = DEFAULTS.feature_share,
    patience: Annotated[
        int, typer.Option(envvar="FRAUD_TRAINING_PATIENCE", help="Stop after so many trees without a gain.")
    ] = DEFAULTS.patience,
    least_gain: Annotated[
        float,
        typer.Option(
            envvar="FRAUD_TRAINING_LEAST_GAIN", help="Of average precision, what counts as one, for LightGBM."
        ),
    ] = DEFAULTS.least_gain,
    trust: Annotated[
        str,
        typer.Option(
            envvar="FRAUD_TRAINING_TRUST",
            help="Columns that are learnt from although they alone tell the frauds: known in time all the same.",
        ),
    ] = "none",
    thresholds_by: ThresholdsByOption = DEFAULTS.thresholds_by,
    review_share: ReviewShareOption = DEFAULTS.review_share,
    review_per_day: ReviewPerDayOption = None,
    review_precision: ReviewPrecisionOption = DEFAULTS.review_precision,
    decline_precision: DeclinePrecisionOption = DEFAULTS.decline_precision,
    cost_missed_share: MissedShareOption = DEFAULTS.cost_missed_share,
    cost_missed_fixed: MissedFixedOption = DEFAULTS.cost_missed_fixed,
    cost_review: ReviewOption = DEFAULTS.cost_review,
    cost_wrong_decline: WrongDeclineOption = DEFAULTS.cost_wrong_decline,
    current_anyway: Annotated[
        bool,
        typer.Option("--current-anyway", help="Put a first model in use even if it flags nothing."),
    ] = False,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Make it the champion, if it passes every gate; status 1 where it doesn't."),
    ] = False,
    force: ForceOption = None,
    probation: ProbationOption = USUAL_PROBATION,
    ap_tolerance: PrecisionToleranceOption = LIMITS.precision_tolerance,
    cost_tolerance: CostToleranceOption = LIMITS.cost_tolerance,
    least_frauds: LeastFraudsOption = LIMITS.least_frauds,
    latency_budget: LatencyBudgetOption = 1e3 * LIMITS.latency_budget,
    mlflow: MLflowOption = True,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_experiment: ExperimentOption = MLFLOW.experiment,
    mlflow_model: ModelOption = MLFLOW.model,
    mlflow_pending: PendingOption = MLFLOW.pending,
    as_json: JsonOption = False,
) -> None:
    """Learn a bundle from a past, judge it beside the champion, and tell MLflow of it.

    For example:  training run .local/demo/history --trees 300 --json
    """
    from schemas.mapping import load_mapping
    from training.deploying import Found
    from training.gates import quality
    from training.job import report, train
    from training.learners.chosen import chosen_until, learner_of, parameters
    from training.promote_commands import deployer_of, require_passed, show
    from training.reading import read

    meant = None if mapping is None else load_mapping(mapping, label_delay=label_delay)
    usual = DEFAULTS.label_delay if meant is None else meant.delay()
    settings = TrainingSettings(
        out=out,
        train_until=None if train_until is None else moment(train_until),
        label_delay=usual if label_delay is None else duration(label_delay),
        validation=None if validation is None else duration(validation),
        folds=folds,
        seed=seed,
        threads=threads,
        dask=dask,
        learner=learners(learner),
        learners=parameters(learners_file, said or []),
        learners_until=chosen_until(learners_file),
        imbalance=imbalance,
        imbalance_ratio=imbalance_ratio,
        calibration=calibration,
        attributes=columns(attributes),
        smoothing=smoothing,
        smallest_value=smallest_value,
        most_values=most_values,
        trees=trees,
        leaves=leaves,
        learning_rate=learning_rate,
        smallest_leaf=smallest_leaf,
        l2=l2,
        feature_share=feature_share,
        patience=patience,
        least_gain=least_gain,
        trusted=columns(trust) or (),
        current_anyway=current_anyway,
        thresholds_by=thresholds_by,
        review_share=review_share,
        review_per_day=review_per_day,
        review_precision=review_precision,
        decline_precision=decline_precision,
        cost_missed_share=cost_missed_share,
        cost_missed_fixed=cost_missed_fixed,
        cost_review=cost_review,
        cost_wrong_decline=cost_wrong_decline,
    )
    tracking = Tracking(
        uri=mlflow_uri,
        artifacts=mlflow_artifacts,
        experiment=mlflow_experiment,
        model=mlflow_model,
        pending=mlflow_pending,
    )
    limits = Limits(
        precision_tolerance=ap_tolerance,
        cost_tolerance=cost_tolerance,
        least_frauds=least_frauds,
        latency_budget=latency_budget / 1e3,
    )
    on_probation = duration(probation)
    if force is not None and not promote:
        raise WrongSettings("--force lets a model past the gates of --promote, which isn't said")
    learner_of(settings)
    rules = load(Settings, os.environ).rules_of_past()
    began = datetime.now(UTC)
    told: Told | None = None
    changed: Changed | None = None
    with OnConsole(Console(stderr=True)) as narrator:
        deployer = deployer_of(tracking if mlflow else None, mlflow_model, out, narrator) if promote else None
        expected = None if deployer is None else deployer.champion()
        found = read(
            past,
            meant,
            narrator,
            attributes=settings.attributes,
            rules=rules,
            served_by=out if vectors is VectorsFrom.SERVED else None,
            whole=settings.train_until is None,
        )
        source = found.source() if mlflow else None
        trained = train(
            found.transactions,
            found.labels,
            settings=settings,
            rates=rules.rates,
            keys=rules.keys,
            rejected=found.rejected,
            narrator=narrator,
            data=found.archive,
            champion=None if deployer is None or expected is None else deployer.champions_folder(expected),
            served=found.served,
        )
        if source is not None:
            narrator.stage("log", f"telling MLflow at {tracking.shown}")
            record = record_of(
                trained.path,
                trained.manifest,
                trained.folds,
                settings,
                began=began,
                ended=datetime.now(UTC),
                source=source,
                code=code_version(),
                seconds=narrator.seconds,
            )
            told = tell(tracking, record, trained.path, narrator.progress)
        if deployer is not None:
            version = None if told is None else told.version
            made = Found(folder=trained.path, model=Model(bundle=trained.path.name, version=version))
            changed = deployer.already(made) or deployer.promote(
                made,
                (*quality(trained.judgement, expected=expected, limits=limits), *deployer.service_gates(made, limits)),
                judged=expected,
                probation=on_probation,
                force=force,
            )
    if told is not None and told.waits is not None:
        ending.warn(
            f"MLflow was not told: {told.waits}; the run waits in {tracking.pending} for the next, or `training upload`"
        )
    if as_json:
        sys.stdout.write(report(trained, narrator.seconds, told, changed).decode() + "\n")
    else:
        _sum_up(trained, told)
        if changed is None:
            print(f"next        {_next(trained.path, past, mapping)}")
        else:
            show(changed, "promoted")
    if changed is not None:
        require_passed(changed, "promoted")


app.command("tune")(tune)
app.command(name="backtest")(backtest_command.command)
app.command("fetch")(fetch)
app.command("promote")(promote_commands.promote)
app.command("challenge")(challenge)
app.command("rollback")(rollback)
app.command("models")(models)
app.command("rescore")(rescore)


@app.command(name="validate")
def look_at(
    past: PastArgument,
    mapping: MappingOption = None,
    train_until: UntilOption = None,
    label_delay: DelayOption = None,
    validation: ValidationOption = None,
    folds: FoldsOption = DEFAULTS.folds,
    attributes: Annotated[
        str,
        typer.Option(
            envvar="FRAUD_TRAINING_ATTRIBUTES", help="Columns that are to be learnt from, as for `training run`."
        ),
    ] = "all",
    trust: Annotated[
        str,
        typer.Option(
            envvar="FRAUD_TRAINING_TRUST", help="Columns that may tell the frauds alone, as for `training run`."
        ),
    ] = "none",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report to stdout, as JSON.")] = False,
) -> None:
    """Say what is wrong or odd about a past, and learn nothing.  Status 1 where `training run` would refuse it.

    For example:  training validate payments.csv --mapping mapping.toml --json
    """
    from schemas.mapping import load_mapping
    from training.reading import read
    from training.validating import validate

    meant = None if mapping is None else load_mapping(mapping, label_delay=label_delay)
    usual = DEFAULTS.label_delay if meant is None else meant.delay()
    settings = TrainingSettings(
        train_until=None if train_until is None else moment(train_until),
        label_delay=usual if label_delay is None else duration(label_delay),
        validation=None if validation is None else duration(validation),
        folds=folds,
    )
    rules = load(Settings, os.environ).rules_of_past()
    with OnConsole(Console(stderr=True)) as narrator:
        there = read(past, meant, narrator, attributes=columns(attributes), rules=rules, whole=False)
        narrator.stage("validate", f"looking for what is wrong or odd about {there.transactions.height:,} transactions")
        found = validate(
            there.transactions,
            there.labels,
            attributes=columns(attributes),
            trusted=columns(trust) or (),
            rejected=there.rejected,
            settings=settings,
            rates=rules.rates,
            of_a_log=there.archive is not None,
        )
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        _list(found)
    if found.refused:
        raise typer.Exit(1)


def _list(found: Validation) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for word, findings in (("refused", found.refused), ("odd", found.odd)):
        for finding in findings:
            console.print(f"{word:8s} {finding}", markup=False)
    console.print(
        f"{found.transactions:,} transactions, {found.frauds:,} of them frauds, {found.labels:,} labels: "
        f"{len(found.refused)} refused, {len(found.odd)} odd"
    )


@app.command("upload")
def upload_pending(
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_experiment: ExperimentOption = MLFLOW.experiment,
    mlflow_model: ModelOption = MLFLOW.model,
    mlflow_pending: PendingOption = MLFLOW.pending,
    as_json: JsonOption = False,
) -> None:
    """Tell MLflow of the runs that wait since it was away. Status 1 where some still do.

    For example:  training upload --mlflow-uri http://127.0.0.1:5000
    """
    tracking = Tracking(
        uri=mlflow_uri,
        artifacts=mlflow_artifacts,
        experiment=mlflow_experiment,
        model=mlflow_model,
        pending=mlflow_pending,
    )
    with OnConsole(Console(stderr=True)) as narrator:
        narrator.stage("log", f"telling MLflow at {tracking.shown}")
        outcome = upload(tracking, narrator.progress)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode() + "\n")
    else:
        for name, uploaded in outcome.uploaded.items():
            print(f"{name}  version {uploaded.version} of {tracking.model}")
        print(f"{len(outcome.uploaded)} uploaded, {len(outcome.waiting)} waiting in {tracking.pending}")
    if outcome.waiting:
        raise MLflowAway(next(iter(outcome.waiting.values())))


def _sum_up(trained: TrainedBundle, told: Told | None) -> None:
    from training.thresholds import flags_nothing

    console = Console(highlight=False, soft_wrap=True)
    metrics, thresholds = trained.metrics, trained.manifest.thresholds
    console.print(f"bundle      {trained.path}")
    console.print(f"evaluation  {trained.path / 'evaluation.html'}")
    console.print(f"learner     {trained.manifest.learner['name']}")
    if "chosen" in trained.manifest.learner:
        console.print(f"            {trained.manifest.learner['chosen']}")
    judgement = trained.judgement
    if told is not None and told.version is not None:
        console.print(f"mlflow      version {told.version} of {told.model}, run {told.run}")
    if judgement.model.knew:
        console.print("  rows that judge it had a part in what it is: these figures are too good")
    for name, value in metrics.items():
        console.print(f"  {name:38s} {value:.5g}{_between(judgement.model.intervals.get(name))}")
    if (champion := judgement.champion) is not None:
        knew = ", some of which had a part in it" if champion.knew else ""
        console.print(f"  less what the champion, {champion.name}, has on the same transactions{knew}:")
        for name, interval in judgement.differences.items():
            less = metrics[name] - champion.evaluation.metrics[name]
            console.print(f"  {name:38s} {less:+.5g}{_between(interval)}")
    if judgement.elsewhere is not None:
        console.print(f"  not compared: the champion, {judgement.elsewhere}, learnt from other transactions than these")
    console.print(f"  review {_from(thresholds.review)}, decline {_from(thresholds.decline)}")

    if flags_nothing(thresholds):
        console.print("  this model flags nothing")


def _next(bundle: Path, past: str, mapping: Path | None) -> str:
    """The command that promotes it, as a shell takes it."""
    said = ["training", "promote", bundle.name, "--on", past]
    if mapping is not None:
        said += ["--mapping", str(mapping)]
    if bundle.parent != installation.bundles(load(Settings, os.environ).topic_prefix):
        said += ["--out", str(bundle.parent)]
    return shlex.join(said)


def _from(threshold: float) -> str:
    from training.thresholds import NEVER

    return "never" if threshold >= NEVER else f"from {threshold:.4g}"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"  ({interval.low:.5g} to {interval.high:.5g})"


def main() -> None:
    """The console script."""
    ending.run(app)


if __name__ == "__main__":
    main()
