"""A fold is a training at an earlier date: it knows what was known then, and is judged by what came next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from features.catalogue import FEATURES
from tests.unit.pasts import START, a_past, labels_of
from training import attributes, replay
from training.errors import UnusablePast
from training.learners.learner import Rows, Steps
from training.learners.lightgbm import LightGBM
from training.prequential import Described, Judged, cut, judge, summary
from training.settings import TrainingSettings
from training.split import known_at

DAY = timedelta(days=1)
PAST = a_past(days=60, per_day=60)


def described(
    past: tuple[pl.DataFrame, pl.DataFrame] = PAST, *, until: datetime | None = None, **given: Any
) -> Described:
    known = known_at(until, *past)
    replayed = replay.vectors(known.transactions, known.labels)
    columns, _ = attributes.choose(known.transactions, None)
    history = attributes.History(known, replayed.accepted, columns, TrainingSettings(**given))
    return Described(
        past=known,
        accepted=replayed.accepted,
        vectors=replayed.vectors,
        encoded=history.as_they_occurred(),
        history=history,
    )


WHOLE = described()


@dataclass
class FirstColumn:
    """A learner that learns nothing, and remembers what it was given."""

    fits: list[tuple[Rows, Rows]] = field(default_factory=list)

    def fit(self, rows: Rows, validation: Rows, _settings: TrainingSettings, _on_step: Steps) -> Any:
        self.fits.append((rows, validation))
        return self

    def margins(self, vectors: Any) -> Any:
        return vectors[:, 0].astype(np.float64)


@given(folds=st.integers(2, 6), delay=st.integers(4, 8), share=st.floats(0.6, 1))
@bounds(max_examples=20, deadline=None)
def test_each_fold_knows_what_was_known_at_its_date(folds: int, delay: int, share: float) -> None:
    until = START + 60 * DAY * share
    past = described(until=until)
    parts = cut(past, TrainingSettings(label_delay=delay * DAY), folds=folds)
    times = past.past.transactions["occurred_at"]
    ids = past.past.transactions["transaction_id"]

    for fold in parts:
        assert times.filter(fold.fit).max() < fold.at - delay * DAY  # type: ignore[operator]
        assert times.filter(fold.validation).min() >= fold.at  # type: ignore[operator]
        assert times.filter(fold.validation).max() <= fold.until <= until - delay * DAY  # type: ignore[operator]
        heard = past.past.labels.filter(pl.col("known_at") <= fold.at)
        assert set(ids.filter(fold.known)) == set(heard["transaction_id"])
    for before, after in pairwise(parts):
        assert before.until == after.at
        assert not (before.validation & after.validation).any()
        assert not (before.fit & ~after.fit).any()
    assert parts[-1].until == until - delay * DAY


def test_the_folds_lie_in_the_younger_half() -> None:
    until = WHOLE.past.until
    parts = cut(WHOLE, TrainingSettings(), folds=4)
    first = WHOLE.past.transactions["occurred_at"].min()
    assert isinstance(first, datetime)
    mature = until - 7 * DAY - first

    assert parts[0].at - first >= 7 * DAY + (mature - 7 * DAY) / 2 - DAY / 1_000
    assert parts[0].until - parts[0].at == parts[3].until - parts[3].at
    by_hand = cut(WHOLE, TrainingSettings(validation=2 * DAY), folds=3)
    assert [fold.until - fold.at for fold in by_hand] == [2 * DAY] * 3


def test_what_gets_no_verdict_is_in_no_fold() -> None:
    without = replace(WHOLE, accepted=np.arange(len(WHOLE.accepted)) % 3 > 0)

    for fold in cut(without, TrainingSettings(), folds=3):
        assert not ((fold.fit | fold.validation) & ~without.accepted).any()


def test_a_fold_is_the_same_whatever_came_to_be_known_later() -> None:
    """The rows that are fitted, their labels and encodings, to the bit; the validation's vectors as well."""
    settings = TrainingSettings(label_delay=3 * DAY)
    transactions, labels = PAST
    fold = cut(described(label_delay=3 * DAY), settings, folds=3)[0]
    later = labels_of(transactions.filter((pl.col("occurred_at") < fold.at) & pl.col("channel").eq("card")), 59 * DAY)
    more = pl.concat([labels, later.filter(pl.col("known_at") > fold.until)])
    one, two = FirstColumn(), FirstColumn()
    for learner, past in ((one, PAST), (two, (transactions, more))):
        whole = described(past, until=START + 66 * DAY, label_delay=3 * DAY)
        list(judge(whole, [cut(whole, settings, folds=3)[0]], learner, settings))
    [(rows, validation)], [(same_rows, same_validation)] = one.fits, two.fits

    assert rows.vectors.tobytes() == same_rows.vectors.tobytes()
    assert (rows.is_fraud == same_rows.is_fraud).all()
    assert validation.vectors.tobytes() == same_validation.vectors.tobytes()


def test_the_validation_is_encoded_as_a_worker_would_have_from_that_date() -> None:
    learner = FirstColumn()
    fold = cut(WHOLE, TrainingSettings(), folds=2)[0]
    list(judge(WHOLE, [fold], learner, TrainingSettings()))
    [(rows, validation)] = learner.fits
    kept = WHOLE.past.transactions.filter(fold.validation)

    assert fold.chooses is not None
    assert (fold.frozen == WHOLE.history.frozen(fold.at).encode_table(kept)).all()
    assert (validation.vectors[:, len(FEATURES) :] == fold.frozen[fold.chooses]).all()
    assert np.array_equal(
        validation.vectors[:, : len(FEATURES)], WHOLE.vectors[fold.validation][fold.chooses], equal_nan=True
    )
    assert np.array_equal(rows.vectors[:, : len(FEATURES)], WHOLE.vectors[fold.fit], equal_nan=True)


def test_the_rows_that_judge_a_fold_are_no_part_of_what_stops_it() -> None:
    learner = FirstColumn()
    fold = cut(WHOLE, TrainingSettings(), folds=2)[0]
    [judged] = judge(WHOLE, [fold], learner, TrainingSettings())
    [(_, validation)] = learner.fits
    times = WHOLE.past.transactions["occurred_at"].filter(fold.validation)

    assert fold.chooses is not None
    assert judged.validation_rows + len(validation.is_fraud) == fold.validation.sum()
    assert times.filter(fold.chooses).max() < times.filter(~fold.chooses).min()  # type: ignore[operator]
    assert not judged.knew


def test_a_fold_with_too_few_frauds_to_divide_says_that_its_figures_are_too_good() -> None:
    fold = replace(cut(WHOLE, TrainingSettings(), folds=2)[0], chooses=None)
    learner = FirstColumn()
    [judged] = judge(WHOLE, [fold], learner, TrainingSettings())

    assert judged.knew
    assert judged.validation_rows == len(learner.fits[0][1].is_fraud) == fold.validation.sum()


def test_a_learner_is_judged_at_every_date() -> None:
    settings = TrainingSettings(trees=20, leaves=7, smallest_leaf=5, threads=1)
    folds = cut(WHOLE, settings, folds=3)
    judged = list(judge(WHOLE, folds, LightGBM(), settings))

    assert [fold.at for fold in judged] == [fold.at for fold in folds]
    assert all(fold.auc > 0.75 for fold in judged)
    assert [fold.rows for fold in judged] == [int(fold.fit.sum()) for fold in folds]
    assert judged == list(judge(WHOLE, folds, LightGBM(), settings))


def test_the_summary_is_mean_and_spread() -> None:
    judged = [
        Judged(at=START, until=START, rows=1, frauds=1, validation_rows=1, validation_frauds=1,
               average_precision=precision, auc=0.5)
        for precision in (0.2, 0.4, 0.9)
    ]  # fmt: skip

    assert summary(judged) == pytest.approx(
        {
            "prequential_average_precision": 0.5,
            "prequential_average_precision_spread": np.std([0.2, 0.4, 0.9], ddof=1),
            "prequential_auc": 0.5,
            "prequential_auc_spread": 0.0,
        }
    )


def test_too_many_folds_for_a_past_say_what_would_do() -> None:
    with pytest.raises(UnusablePast, match=r"fold 1, of .*, has \d+ mature rows to (fit|validate), .* fewer --folds"):
        cut(WHOLE, TrainingSettings(validation=20 * DAY), folds=5)
