"""What is learnt from is what was known at the training's date, and what is judged by lies a delay later."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from tests.unit.pasts import START, a_past, labels_of
from training.errors import UnusablePast
from training.split import KnownPast, Split, known_at, split

DAY = timedelta(days=1)
WEEK = 7 * DAY


def cut(past: KnownPast, *, delay: timedelta = WEEK, validation: timedelta | None = None) -> Split:
    return split(past, np.ones(past.transactions.height, bool), delay=delay, validation=validation)


def test_a_label_that_came_after_the_trainings_date_is_not_known() -> None:
    transactions, labels = a_past()
    until = START + 20 * DAY
    past = known_at(until, transactions, labels)
    frauds = past.transactions.filter(past.is_fraud)

    assert past.transactions["occurred_at"].max() <= until  # type: ignore[operator]
    assert past.labels["known_at"].max() <= until  # type: ignore[operator]
    assert set(frauds["transaction_id"]) == set(labels.filter(pl.col("known_at") <= until)["transaction_id"])
    assert frauds["occurred_at"].max() <= until - 3 * DAY  # type: ignore[operator]


def test_without_a_date_it_is_the_last_moment_of_the_past() -> None:
    transactions, labels = a_past()
    early = labels.filter(pl.col("known_at") < START + 30 * DAY)

    assert known_at(None, transactions, labels).until == labels["known_at"].max()
    assert known_at(None, transactions, early).until == transactions["occurred_at"].max()


def test_the_newest_label_of_a_transaction_wins() -> None:
    transactions, labels = a_past()
    taken_back = labels_of(transactions.filter(pl.col("transaction_id") == labels["transaction_id"][0]), 5 * DAY,
                           is_fraud=False)  # fmt: skip
    both = pl.concat([taken_back, labels])  # the order in the table does not decide

    before, after = known_at(None, transactions, labels), known_at(None, transactions, both)
    assert before.is_fraud.sum() - after.is_fraud.sum() == 1


def test_a_label_belongs_to_its_accounts_transaction_only() -> None:
    transactions, labels = a_past()
    stray = labels.with_columns(pl.lit("somebody else").alias("account_id"))

    with pytest.raises(UnusablePast, match=rf"none of the {labels.height} labels belongs to a transaction"):
        known_at(None, transactions, stray)


def test_young_transactions_and_those_of_the_gap_are_left_out() -> None:
    transactions, labels = a_past()
    past = known_at(START + 40 * DAY, transactions, labels)
    parts = cut(past, validation=5 * DAY)
    age = (START + 40 * DAY - past.transactions["occurred_at"]).dt.total_microseconds().to_numpy() / 86_400e6

    assert (parts.validation == ((age > 9.5) & (age <= 12))).all()
    assert (parts.test == ((age >= 7) & (age <= 9.5))).all()
    assert (parts.fit == (age > 19)).all()
    assert parts.validation_from == START + 28 * DAY
    assert parts.validation_until == parts.test_from == START + 30.5 * DAY
    assert parts.test_until == START + 33 * DAY
    assert parts.fit_from == past.transactions["occurred_at"].min()


def test_every_row_that_is_fitted_was_mature_when_the_validation_began() -> None:
    past = known_at(None, *a_past())
    parts = cut(past)
    times = past.transactions["occurred_at"]

    assert times.filter(parts.fit).max() + WEEK <= times.filter(parts.validation).min()  # type: ignore[operator]
    assert times.filter(parts.validation).max() < times.filter(parts.test).min()  # type: ignore[operator]
    assert times.filter(parts.test).max() <= past.until - WEEK  # type: ignore[operator]


def test_what_gets_no_verdict_is_in_no_part() -> None:
    past = known_at(None, *a_past())
    accepted = np.arange(past.transactions.height) % 3 > 0
    parts = split(past, accepted, delay=WEEK)

    assert not (parts.fit & ~accepted).any()
    assert not ((parts.validation | parts.test) & ~accepted).any()
    assert (parts.fit & accepted).any()


@pytest.mark.parametrize(("days", "validation"), [(40, (40 - 14) * 0.3), (120, 14)])
def test_three_tenths_are_kept_and_at_most_two_weeks(days: int, validation: float) -> None:
    transactions, labels = a_past(days=days, per_day=40)
    parts = cut(known_at(START + days * DAY, transactions, labels))

    assert (parts.test_until - parts.validation_from) / DAY == pytest.approx(validation, abs=0.1)
    assert (parts.validation_until - parts.validation_from) / DAY == pytest.approx(validation / 2, abs=0.1)
    assert parts.divided


def frauds_only(past: KnownPast, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> KnownPast:
    """The same past, with these of its frauds and no others among what is kept, and all of those that are fitted."""
    parts = cut(past)
    return replace(past, is_fraud=(past.is_fraud & parts.fit) | rows)


def test_where_one_half_has_no_fraud_the_rows_are_divided_at_half_of_the_frauds() -> None:
    past = known_at(None, *a_past())
    late = np.flatnonzero(cut(past).test)[-5:-1]
    parts = cut(frauds_only(past, np.isin(np.arange(past.transactions.height), late)))

    assert parts.divided
    assert np.flatnonzero(parts.test).tolist() == np.flatnonzero(cut(past).test)[-3:].tolist()
    assert past.transactions["occurred_at"][int(late[2])] == parts.test_from


def test_one_fraud_can_not_both_choose_and_judge() -> None:
    past = known_at(None, *a_past())
    one = np.arange(past.transactions.height) == np.flatnonzero(cut(past).test)[-1]
    parts = cut(frauds_only(past, one))

    assert not parts.divided
    assert (parts.validation == parts.test).all()
    assert parts.validation_until == parts.test_until == past.until - WEEK


def test_a_past_that_is_too_short_says_what_would_do() -> None:
    transactions, labels = a_past(days=10)

    with pytest.raises(
        UnusablePast, match=r"nothing is mature enough: .* 10 days.* More than|more than 14 days .* would do"
    ):
        cut(known_at(START + 10 * DAY, transactions, labels))
    assert cut(known_at(START + 10 * DAY, transactions, labels), delay=3 * DAY).fit.any()


def test_a_part_with_one_class_only_says_which_and_what_would_do() -> None:
    transactions, labels = a_past()
    past = known_at(None, transactions, labels)
    parts = cut(past)

    for part, purpose in ((parts.fit, "to fit"), (parts.validation | parts.test, "to validate")):
        there = transactions.filter(part)["transaction_id"]
        without = labels.filter(~pl.col("transaction_id").is_in(there.to_list()))
        with pytest.raises(UnusablePast, match=rf"mature rows {purpose}, 0 of them frauds: .* would do"):
            cut(known_at(past.until, transactions, without))


def test_pasts_that_can_not_be_learnt_from_are_named() -> None:
    transactions, labels = a_past()

    with pytest.raises(UnusablePast, match="empty"):
        known_at(None, transactions.clear(), labels)
    with pytest.raises(
        UnusablePast, match=r"none was known to be a fraud.* A past with labels that say is_fraud would do"
    ):
        known_at(None, transactions, labels.clear())
    with pytest.raises(UnusablePast, match="or a later --train-until, would do"):
        known_at(START + DAY, transactions, labels)
    with pytest.raises(UnusablePast, match="all 4800 transactions are frauds"):
        known_at(None, transactions, labels_of(transactions, DAY))
    with pytest.raises(UnusablePast, match=r"later than .*--train-until"):
        known_at(START - DAY, transactions, labels)
    with pytest.raises(UnusablePast, match="transactions has no column amount, ip; a mapping"):
        known_at(None, transactions.drop("amount", "ip"), labels)
    with pytest.raises(UnusablePast, match="labels has no column known_at"):
        known_at(None, transactions, labels.drop("known_at"))
