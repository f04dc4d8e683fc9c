"""`training backtest`: what a recipe would have been worth on anybody's table."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console

from features.settings import Settings, load
from schemas.currencies import money
from schemas.errors import WrongSettings
from schemas.spans import duration, moment
from training.narration import OnConsole
from training.options import (
    DeclinePrecisionOption,
    MappingOption,
    MissedFixedOption,
    MissedShareOption,
    PastArgument,
    ReviewOption,
    ReviewPerDayOption,
    ReviewPrecisionOption,
    ReviewShareOption,
    ThresholdsByOption,
    WrongDeclineOption,
)
from training.settings import CalibrationMethod, Imbalance, Policy, TrainingSettings, columns, learners

if TYPE_CHECKING:
    from training.backtest import Backtested, Described, Window
    from training.evaluate import Confusion

DEFAULTS = TrainingSettings()
SHOWN = ("auc", "average_precision", "recall_at_1_percent_false_positives", "lift_at_20_percent")
COSTS = ("cost_per_1000", "cost_per_1000_if_all_are_approved")
_EVER = datetime.max.replace(tzinfo=UTC)
_DATE = "as 2026-07-01 (midnight UTC) or 2026-07-01T06:00:00+02:00"


def command(
    past: PastArgument,
    train_until: Annotated[str, typer.Option(help=f"No later row is learnt from; {_DATE}.")],
    test_from: Annotated[
        str, typer.Option(help="The rows to be judged begin here; no label known later is learnt from.")
    ],
    mapping: MappingOption = None,
    train_from: Annotated[str | None, typer.Option(help="No earlier row is learnt from. Default: all.")] = None,
    test_until: Annotated[str | None, typer.Option(help="The rows to be judged end here. Default: all.")] = None,
    label_delay: Annotated[
        str | None,
        typer.Option(
            help="After this a label is known, where the table doesn't say when. Default: the mapping's, or 7d."
        ),
    ] = None,
    learner: Annotated[
        str,
        typer.Option(
            help="lightgbm, xgboost, random-forest or logistic-regression; several, as lightgbm,xgboost, are an ensemble."
        ),
    ] = ",".join(DEFAULTS.learner),
    learners_file: Annotated[
        Path | None, typer.Option("--learners", help="A TOML file of their parameters, in tables [learners.xgboost].")
    ] = None,
    said: Annotated[
        list[str] | None, typer.Option("--set", help="One such parameter, as xgboost.max_depth=3. Any number.")
    ] = None,
    imbalance: Annotated[
        Imbalance, typer.Option(help="What is done about frauds being rare, inside the fit.")
    ] = DEFAULTS.imbalance,
    calibration: Annotated[CalibrationMethod, typer.Option(help="How margins become probabilities.")] = (
        DEFAULTS.calibration
    ),
    attributes: Annotated[str, typer.Option(help="Columns learnt from beside the catalogue; `all` or `none`.")] = "all",
    trust: Annotated[
        str,
        typer.Option(
            help="Columns that are learnt from although they alone tell the frauds: known in time all the same."
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
    without_known: Annotated[
        bool,
        typer.Option(
            "--without-known", help="Leave out accounts with a fraud that was known the day before, as published."
        ),
    ] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Write the rows' transaction_id, is_fraud and score here, as Parquet; of the first transactions of accounts "
            "also what the transaction alone says, as score_alone."
        ),
    ] = None,
    seed: Annotated[int, typer.Option()] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(help="0: one a core.")] = DEFAULTS.threads,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures to stdout, as JSON.")] = False,
) -> None:
    """Learn at a date of the past, and judge by what came after it.

    For example:  training backtest cards.parquet --mapping handbook --train-until 2018-08-01 --test-from 2018-08-08
    """
    from schemas.mapping import load_mapping
    from training.backtest import Described, Window, backtest
    from training.learners.chosen import chosen_until, learner_of, parameters
    from training.reading import read
    from training.validating import validate

    meant = None if mapping is None else load_mapping(mapping, label_delay=label_delay)
    settings = TrainingSettings(
        label_delay=(DEFAULTS.label_delay if meant is None else meant.delay())
        if label_delay is None
        else duration(label_delay),
        seed=seed,
        threads=threads,
        learner=learners(learner),
        learners=parameters(learners_file, said or []),
        learners_until=chosen_until(learners_file),
        imbalance=imbalance,
        calibration=calibration,
        attributes=columns(attributes),
        trusted=columns(trust) or (),
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
    if thresholds_by is Policy.CHAMPION:
        raise WrongSettings("thresholds_by champion: a backtest has no champion; precision, capacity or cost would do")
    if scores is not None and not scores.parent.is_dir():
        raise WrongSettings(f"{scores.parent}, the folder for the scores, does not exist")
    if scores is not None and scores.exists() and scores.samefile(past):
        raise WrongSettings(f"{scores} is the past itself: the scores would take its place")
    asked = Window(
        train_from=None if train_from is None else _date(train_from),
        train_until=_date(train_until),
        test_from=_date(test_from),
        test_until=_EVER if test_until is None else _date(test_until),
    )
    learner_of(settings)
    rules = load(Settings, os.environ).rules_of_past()
    rates = rules.rates
    with OnConsole(Console(stderr=True)) as narrator:
        if settings.learners_until is not None and settings.learners_until > asked.test_from:
            narrator.warn(
                f"the learner's parameters were searched for with what was known on {settings.learners_until:%F %R}, after "
                "--test-from: the figures are too good"
            )
        there = read(past, meant, narrator, attributes=settings.attributes, rules=rules)
        count = there.transactions.height
        narrator.stage("validate", f"looking for what is wrong or odd about {count:,} transactions")
        validation = validate(
            there.transactions,
            there.labels,
            attributes=settings.attributes,
            trusted=settings.trusted,
            rejected=there.rejected,
            of_a_log=there.archive is not None,
            rates=rates,
        )
        validation.require_usable()
        for finding in validation.odd:
            narrator.warn(str(finding))
        narrator.stage("describe", f"describing {count:,} transactions as a worker sees them")
        described = Described.of(there.transactions, there.labels, rates, rules.keys)
        window = asked if test_until is not None else _until_the_last(asked, described)
        found = backtest(described, window, settings, rates=rates, without_known=without_known, narrator=narrator)
    if scores is not None:
        _write(scores, described, found)
    if as_json:
        said_json = msgspec.json.encode(_report(described, window, found, settings, rates.currency, narrator.seconds))
        sys.stdout.write(msgspec.json.format(said_json, indent=2).decode() + "\n")
    else:
        _show(described, window, found, settings, rates.currency)
        if scores is not None:
            print(f"the scores are in {scores}")


def _until_the_last(asked: Window, past: Described) -> Window:
    """Raises UnusablePast where the test would begin after it."""
    last = past.transactions["occurred_at"].max()
    assert isinstance(last, datetime)  # Described.of has none without transactions
    return replace(asked, test_until=last + timedelta(microseconds=1))


def _date(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return moment(text)


def _write(target: Path, past: Described, found: Backtested) -> None:
    """Whole, or not at all.  Raises OSError."""
    import polars as pl

    from training.bundle import write_table

    alone = np.full(len(found.rows), np.nan)
    alone[found.first] = found.scores_alone
    draft = target.with_name(f".{target.name}.draft")
    try:
        scores = pl.DataFrame(
            {
                "transaction_id": past.transactions["transaction_id"].gather(found.rows),
                "is_fraud": past.is_fraud[found.rows],
                "score": found.scores,
                "score_alone": pl.Series(alone).fill_nan(None),
            }
        )
        write_table(scores, draft)
        draft.replace(target)
    except OSError as error:
        raise OSError(f"{target} can't be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _report(
    past: Described,
    window: Window,
    found: Backtested,
    settings: TrainingSettings,
    currency: str,
    seconds: dict[str, float],
) -> dict[str, Any]:
    from training.thresholds import went_by

    return {
        "train": {
            "from": window.train_from,
            "until": window.train_until,
            "rows": found.fit_rows,
            "frauds": found.fit_frauds,
        },
        "test": {
            "from": window.test_from,
            "until": window.test_until,
            "rows": len(found.rows),
            "frauds": int(past.is_fraud[found.rows].sum()),
        },
        "learner": found.fitted.card(),
        "thresholds": found.thresholds,
        "thresholds_by": went_by(settings),
        "currency": currency,
        "metrics": found.evaluation.metrics,
        "first_transactions": found.of_first,
        "seconds": seconds,
    }


def _show(past: Described, window: Window, found: Backtested, settings: TrainingSettings, currency: str) -> None:
    from training.evaluate import CARDS

    frauds, metrics = int(past.is_fraud[found.rows].sum()), found.evaluation.metrics
    card, most = found.fitted.card(), metrics[f"card_precision_{CARDS}_attainable"]
    lines = {
        "learnt from": f"{found.fit_rows:,} transactions, {found.fit_frauds:,} frauds, before {window.train_until:%F %R}",
        "learner": f"{card['name']}",
        **({"": f"{card['chosen']}"} if "chosen" in card else {}),
        "judged by": f"{len(found.rows):,} transactions, {frauds:,} frauds, from {window.test_from:%F %R}",
        **{name: f"{metrics[name]:.4f}" for name in SHOWN},
        f"card_precision_{CARDS}": f"{metrics[f'card_precision_{CARDS}']:.4f}, at most {most:.4f} was attainable",
        **{name: f"{money(metrics[name], currency)} per 1,000 transactions" for name in COSTS},
        "thresholds": f"{_threshold('review', found.evaluation.review)}, {_threshold('decline', found.evaluation.decline)}, "
        f"by {settings.thresholds_by}",
        "first transactions of accounts": f"{found.of_first.rows:,} transactions, {found.of_first.frauds:,} frauds",
    }
    if found.of_first.average_precision is not None:
        lines |= {
            "  average_precision": f"{found.of_first.average_precision:.4f}",
            "  by the transaction alone": f"{found.of_first.average_precision_alone:.4f}",
        }
    console = Console(highlight=False, soft_wrap=True)
    for name, said in lines.items():
        console.print(f"{name:36s} {said}", markup=False)


def _threshold(name: str, at: Confusion) -> str:
    """What it flags, and how much of that is fraud."""
    from training.thresholds import NEVER

    if at.threshold >= NEVER:
        return f"{name} never"
    flagged = at.caught + at.wrong
    return f"{name} from {at.threshold:.4g} ({flagged:,} transactions, {at.caught:,} of them frauds)"
