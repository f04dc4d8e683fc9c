"""`training tune`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from features.settings import Settings, load
from schemas import installation
from schemas.spans import duration, moment
from training import ending
from training.narration import OnConsole
from training.options import (
    AttributesOption,
    DelayOption,
    JsonOption,
    MappingOption,
    PastArgument,
    SeedOption,
    ThreadsOption,
    UntilOption,
    ValidationOption,
    own,
)
from training.search import Search
from training.settings import TrainingSettings, columns, learners

if TYPE_CHECKING:
    from training.tuning import Found, Standing

DEFAULTS = TrainingSettings()
SEARCH = Search()
INTERRUPTED = 130


def tune(
    past: PastArgument,
    mapping: MappingOption = None,
    learner: Annotated[
        str,
        typer.Option(
            envvar="FRAUD_TRAINING_LEARNER",
            help="lightgbm, xgboost, random-forest or logistic-regression; one of them.",
        ),
    ] = DEFAULTS.learner[0],
    learners_file: Annotated[
        Path | None,
        typer.Option(
            "--learners",
            envvar="FRAUD_TRAINING_LEARNERS",
            help="A TOML file of parameters, in tables [learners.xgboost]; those that are searched for come over them.",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(envvar="FRAUD_TUNING_BUDGET", help="How long, as 10m or 2h.")
    ] = f"{SEARCH.budget.total_seconds() / 60:.0f}m",
    trials: Annotated[
        int, typer.Option(envvar="FRAUD_TUNING_TRIALS", help="At most, with those of earlier commands.")
    ] = SEARCH.trials,
    folds: Annotated[
        int, typer.Option(envvar="FRAUD_TUNING_FOLDS", help="At how many dates each is fitted and judged.")
    ] = SEARCH.folds,
    out: Annotated[
        Path,
        typer.Option(
            envvar="FRAUD_TUNING_OUT",
            help="The folder of studies and of what they found. The topic prefix goes before the default's last part.",
            callback=own(installation.tuning),
        ),
    ] = SEARCH.folder,
    train_until: UntilOption = None,
    label_delay: DelayOption = None,
    validation: ValidationOption = None,
    seed: SeedOption = DEFAULTS.seed,
    threads: ThreadsOption = DEFAULTS.threads,
    attributes: AttributesOption = "all",
    as_json: JsonOption = False,
) -> None:
    """Search for a learner's parameters, judged at several dates before those that `training run` judges by.

    Stopped with Ctrl-C (status 130) or at the budget's end it keeps what it found, and the same command goes on from there.

    For example:  training tune .local/demo/history --budget 10m, then
    training run .local/demo/history --learners .local/tuning/lightgbm.toml
    """
    from schemas.mapping import load_mapping
    from training.learners.chosen import chosen_until, parameters
    from training.reading import read
    from training.tuning import only_learner, prepare
    from training.tuning import tune as search_for

    meant = None if mapping is None else load_mapping(mapping, label_delay=label_delay)
    usual = DEFAULTS.label_delay if meant is None else meant.delay()
    settings = TrainingSettings(
        train_until=None if train_until is None else moment(train_until),
        label_delay=usual if label_delay is None else duration(label_delay),
        validation=None if validation is None else duration(validation),
        seed=seed,
        threads=threads,
        learner=learners(learner),
        learners=parameters(learners_file, []),
        learners_until=chosen_until(learners_file),
        attributes=columns(attributes),
    )
    only_learner(settings)
    search = Search(folds=folds, trials=trials, budget=duration(budget), folder=out)
    rules = load(Settings, os.environ).rules_of_past()
    rates, keys = rules.rates, rules.keys
    console = Console(stderr=True)
    with OnConsole(console) as narrator:
        read_in = read(
            past,
            meant,
            narrator,
            attributes=settings.attributes,
            rules=rules,
            whole=settings.train_until is None,
        )
        source = read_in.source()
        described, dates = prepare(
            read_in.transactions,
            read_in.labels,
            settings=settings,
            folds=search.folds,
            rates=rates,
            keys=keys,
            narrator=narrator,
        )
    console.print(f"judging {learner} at {', '.join(f'{fold.at:%Y-%m-%d}' for fold in dates)}", highlight=False)
    with OnBar(console) as bar:
        try:
            found = search_for(
                described,
                dates,
                settings=settings,
                search=search,
                data=source.digest,
                rates=rates,
                keys=keys,
                on_standing=bar.show,
            )
        except KeyboardInterrupt:
            ending.warn(f"stopped before {learner} was judged once: nothing is found yet")
            raise SystemExit(INTERRUPTED) from None
    report = msgspec.json.format(msgspec.json.encode(found), indent=2)
    (search.folder / "report.json").write_bytes(report + b"\n")
    if as_json:
        sys.stdout.write(report.decode() + "\n")
    else:
        _sum_up(found, search)
    if found.ended == "interrupted":
        raise SystemExit(INTERRUPTED)


class OnBar:
    """A bar for the whole search where somebody watches, else a line for each trial."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, visible=False)
        self._told = -1

    def __enter__(self) -> OnBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, standing: Standing) -> None:
        """Called at every step of every fit."""
        if self._console.is_terminal:
            where = f"trial {standing.done + 1} of {standing.of}, date {standing.folds_done + 1} of {standing.folds}"
            self._bar.update(
                self._task, description=f"{where}{_in_words(standing)}", completed=standing.share, visible=True
            )
        elif standing.done > self._told:
            self._told = standing.done
            self._console.print(
                f"{standing.done} of {standing.of} trials{_in_words(standing)}", highlight=False, soft_wrap=True
            )


def _in_words(standing: Standing) -> str:
    if standing.as_it_was is None:
        return ""
    found = "" if standing.best is None else f" best {standing.best:.4f},"
    return f";{found} as it was {standing.as_it_was:.4f}"


def _sum_up(found: Found, search: Search) -> None:
    console = Console(highlight=False, soft_wrap=True)
    file = search.folder / f"{found.learner}.toml"
    console.print(
        f"{found.trials} trials, {found.given_up} of them given up; ended by {found.ended}; study {found.study}"
    )
    console.print(f"average precision over {len(found.dates)} dates {found.best:.4f}, {found.as_it_was:.4f} as it was")
    console.print(found.says())
    for name, value in found.parameters.items():
        console.print(f"  {name:24s} {value:.6g}" if isinstance(value, float) else f"  {name:24s} {value}")
    console.print(f"training run … --learner {found.learner} --learners {file}", markup=False)
