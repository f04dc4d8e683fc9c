"""A row is encoded by what was known before it, and by nothing else; what is frozen at its time encodes it alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.attributes import CategoryColumn, fraud_rate, prior
from tests.unit.effort import least_work
from tests.unit.pasts import START, a_past, labels_of
from training.attributes import History, choose
from training.errors import UnusablePast
from training.job import TrainedBundle, train
from training.settings import TrainingSettings
from training.split import KnownPast

Vectors = npt.NDArray[np.float32]
DELAY = timedelta(days=7)
HOUR = timedelta(hours=1)
COLUMN = "attributes.shop"
QUICK: dict[str, Any] = {"smallest_value": 2, "most_values": 3, "smoothing": 5.0}


class Payment(msgspec.Struct, frozen=True):
    """Of a small past: hours since its start, what it carries, and labels as hours after it and what they say."""

    at: int
    shop: str | None
    labels: tuple[tuple[int, bool], ...] = ()
    counts: bool = True


payments = st.builds(
    Payment,
    at=st.integers(0, 400),
    shop=st.sampled_from(["a", "b", "c", "d", "e", "", None]),
    labels=st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=2).map(tuple),
    counts=st.sampled_from([True, True, True, False]),
)
pasts = st.lists(payments, min_size=1, max_size=40)


def history(past: list[Payment], **own: Any) -> History:
    """In this order."""
    at = pl.Series([START + one.at * HOUR for one in past], dtype=pl.Datetime("us", "UTC"))
    transactions = a_past(days=1)[0].head(1).select(pl.all().repeat_by(len(past)).explode())
    transactions = transactions.with_columns(
        at.alias("occurred_at"),
        pl.Series("transaction_id", [f"t{i}" for i in range(len(past))]),
        pl.Series(COLUMN, [one.shop for one in past], dtype=pl.String),
    )
    labels = [
        labels_of(transactions[i], after * HOUR, is_fraud=says)
        for i, one in enumerate(past)
        for after, says in sorted(one.labels)
    ]
    known = KnownPast(
        transactions=transactions,
        labels=pl.concat([labels_of(transactions.head(0), HOUR), *labels]).sort("known_at", maintain_order=True),
        is_fraud=np.zeros(len(past), bool),
        until=START,
    )
    counts = np.array([one.counts for one in past])
    return History(known, counts, [COLUMN], TrainingSettings(label_delay=DELAY, **(QUICK | own)))


def encoded(past: list[Payment], **own: Any) -> Vectors:
    return history(past, **own).as_they_occurred()


def plainly(past: list[Payment]) -> list[tuple[float, float]]:
    """The same by the words of the documentation, one row at a time."""
    delay = DELAY // HOUR

    def known_at(at: int) -> set[str]:
        before = sorted((one for one in past if one.at < at and one.counts and one.shop), key=lambda one: one.at)
        seen: Counter[str | None] = Counter()
        known: list[str] = []
        for one in before:
            seen[one.shop] += 1
            if one.shop and seen[one.shop] == QUICK["smallest_value"] and len(known) < QUICK["most_values"]:
                known.append(one.shop)
        return set(known)

    def is_fraud(one: Payment, at: int) -> bool:
        told = [says for after, says in sorted(one.labels, key=lambda label: label[0]) if one.at + after < at]
        return bool(told and told[-1])

    def of(one: Payment) -> tuple[float, float]:
        if not one.shop:
            return float("nan"), float("nan")
        before = [each for each in past if each.at < one.at and each.counts and each.shop]
        known = one.shop in known_at(one.at)
        alike = [each for each in before if (each.shop == one.shop if known else each.shop not in known_at(each.at))]
        rate = [sum(is_fraud(each, one.at) for each in some if each.at + delay < one.at) for some in (alike, before)]
        count = [sum(each.at + delay < one.at for each in some) for some in (alike, before)]
        overall = prior(float(rate[1]), float(count[1]))
        frequency = len(alike) / len(before) if known else 0.0
        return frequency, fraud_rate(float(rate[0]), float(count[0]), overall, QUICK["smoothing"])

    return [of(one) for one in past]


@given(pasts)
@settings(deadline=None, max_examples=150)
def test_the_walk_counts_as_the_documentation_says(past: list[Payment]) -> None:
    ordered = [msgspec.structs.replace(one, labels=tuple(sorted(one.labels))) for one in past]
    ordered = [one for one in ordered if len({after for after, _ in one.labels}) == len(one.labels)] or [
        Payment(0, "a")
    ]

    assert encoded(ordered).tobytes() == np.array(plainly(ordered), np.float32).tobytes()


@given(pasts)
@settings(deadline=None, max_examples=60)
def test_the_tables_frozen_at_a_rows_time_encode_it_as_the_walk_does(past: list[Payment]) -> None:
    known = history(past)
    rows = known.as_they_occurred()
    for i, one in enumerate(past):
        frozen = known.frozen(START + one.at * HOUR)
        alone = pl.DataFrame({COLUMN: [one.shop]}, schema={COLUMN: pl.String})
        assert frozen.encode_table(alone).tobytes() == rows[i].tobytes()


@given(pasts, st.data())
@settings(deadline=None, max_examples=100)
def test_a_row_depends_on_no_label_that_is_known_later_and_not_on_its_own(
    past: list[Payment], data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(past) - 1))
    now = past[row].at

    def otherwise(i: int, one: Payment) -> Payment:
        labels = [(after, says) for after, says in one.labels if i != row and one.at + after < now]
        others = data.draw(st.lists(st.tuples(st.integers(0, 900), st.booleans()), max_size=2))
        labels += [(after, says) for after, says in others if i == row or one.at + after >= now]
        return msgspec.structs.replace(one, labels=tuple(labels))

    changed = [otherwise(i, one) for i, one in enumerate(past)]
    assert encoded(changed)[row].tobytes() == encoded(past)[row].tobytes()


@given(pasts, st.data())
@settings(deadline=None, max_examples=100)
def test_a_row_depends_on_nothing_that_comes_after_it(past: list[Payment], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(past) - 1))
    before = [one for i, one in enumerate(past) if i == row or one.at < past[row].at]
    after = data.draw(st.lists(payments, max_size=10))
    later = [msgspec.structs.replace(one, at=past[row].at + one.at) for one in after]
    place = before.index(past[row])

    assert encoded(before + later)[place].tobytes() == encoded(past)[row].tobytes()


def test_labels_do_count_once_they_are_known_and_their_transactions_matured() -> None:
    """Or that nothing leaks would say little."""
    frauds = [Payment(i, "a", ((24, True),)) for i in range(10)]
    others = [Payment(i, "b") for i in range(90)]
    asked = [Payment(day * 24, shop) for day in (6, 12) for shop in "ab"]
    early_a, early_b, late_a, late_b = encoded(frauds + others + asked)[-4:, 1].tolist()

    assert early_a == early_b == pytest.approx(1 / 100), "known after a day, and not yet matured"
    assert late_a > 0.6
    assert late_b < 0.03


def test_a_corrected_label_counts_as_it_was_known_then() -> None:
    past = [Payment(0, "a"), Payment(1, "a", ((24, True), (400, False))), Payment(300, "a"), Payment(500, "a")]
    then, later = encoded(past)[2:, 1].tolist()

    assert then > later


def test_what_was_seen_too_seldom_is_unknown_and_only_the_first_so_many_are_kept() -> None:
    past = [Payment(i, shop) for i, shop in enumerate("aabbccdde")]
    (column,) = history(past).frozen(START + 100 * HOUR).attributes.columns

    assert isinstance(column, CategoryColumn)
    assert list(column.values) == ["a", "b", "c"], "d is the fourth, e was seen once"
    assert column.all.seen == 9


def test_only_what_counts_is_counted() -> None:
    past = [Payment(i, "a") for i in range(4)]
    twice = past + [msgspec.structs.replace(one, counts=False) for one in past]

    assert history(twice).frozen(START + DELAY).attributes == history(past).frozen(START + DELAY).attributes


# Which columns


def chosen(**columns: Any) -> tuple[list[str], dict[str, str]]:
    rows = len(next(iter(columns.values())))
    transactions = (
        a_past(days=10)[0]
        .head(rows)
        .with_columns(
            pl.Series(name if name in ("channel", "country") else f"attributes.{name}", values, strict=False)
            for name, values in columns.items()
        )
    )
    kept, left_out = choose(transactions, None)
    return [name.removeprefix("attributes.") for name in kept], {
        name.removeprefix("attributes."): why for name, why in left_out.items()
    }


def test_numbers_booleans_and_text_are_encoded() -> None:
    kept, _ = chosen(shop=["a", "b"] * 50, tip=list(range(100)), paid=[True, False] * 50, channel=["x", "y"] * 50)

    assert kept == ["channel", "shop", "tip", "paid"]


def test_what_can_tell_nothing_is_left_out_and_said() -> None:
    _, left_out = chosen(
        session=[f"s{i}" for i in range(100)], same=["a"] * 100, none=[None] * 100, one=[1] * 100, day=[START] * 100
    )

    assert "100 of 100 values are distinct" in left_out["session"]
    assert left_out["same"] == left_out["one"] == left_out["currency"] == "it is always the same"
    assert left_out["none"] == left_out["category"] == "it is always missing"
    assert "neither numbers" in left_out["day"]


def test_a_value_that_is_the_same_or_missing_is_encoded() -> None:
    kept, _ = chosen(gift=["yes", None] * 50, channel=["x", "y"] * 50)

    assert kept == ["channel", "gift"]


def test_an_attribute_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnusablePast, match=r"'attributes.moon'.*currency"):
        choose(a_past(days=1)[0], ["attributes.moon"])


# The bundle


def carrying(shop: npt.NDArray[Any], name: str = "shop") -> tuple[pl.DataFrame, pl.DataFrame]:
    transactions, labels = PAST
    return transactions.with_columns(pl.Series(f"attributes.{name}", shop)), labels


PAST = a_past(days=60, per_day=200)
FRAUD = PAST[0]["transaction_id"].is_in(PAST[1]["transaction_id"].to_list()).to_numpy()


def trained(out: Path, past: tuple[pl.DataFrame, pl.DataFrame], **own: Any) -> TrainedBundle:
    defaults: dict[str, Any] = {"trees": 30, "leaves": 7, "smallest_leaf": 20, "threads": 1, "out": out}
    return train(*past, settings=TrainingSettings(**(defaults | own)))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    return trained(tmp_path_factory.mktemp("without"), PAST, attributes=())


def test_an_attribute_that_tells_makes_the_model_better(without: TrainedBundle, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    shop = np.where(
        random.random(len(FRAUD)) < np.where(FRAUD, 0.7, 0.05), "crypto", random.choice(["food", "fuel"], len(FRAUD))
    )
    better = trained(tmp_path, carrying(shop))

    assert better.metrics["average_precision"] > 1.25 * without.metrics["average_precision"]
    assert [column.column for column in better.manifest.attributes] == ["channel", "attributes.shop"]
    assert better.manifest.features[-1] == "fraud_rate(attributes.shop)"


@pytest.mark.parametrize("distinct", [3_000, 500, 40])
def test_random_text_gets_no_power(without: TrainedBundle, tmp_path: Path, distinct: int) -> None:
    random = np.random.default_rng(distinct)
    noise = np.char.add("id-", random.integers(0, distinct, len(FRAUD)).astype(str))
    noisy = trained(tmp_path, carrying(noise), attributes=("attributes.shop",))

    # A column more draws other features for each tree, which moves it by a tenth; a leak would bring it near one.
    assert noisy.metrics["average_precision"] < 1.2 * without.metrics["average_precision"]
    assert noisy.manifest.attributes


def test_an_id_is_dropped_and_said(without: TrainedBundle, tmp_path: Path) -> None:
    ids = np.array([f"session-{i}" for i in range(len(FRAUD))])
    told = trained(tmp_path, carrying(ids, "session"), attributes=("attributes.session",))

    assert told.manifest.attributes == ()
    assert "distinct" in told.manifest.left_out["attributes.session"]
    assert told.manifest.features == without.manifest.features


def test_names_that_lightgbm_would_refuse(tmp_path: Path) -> None:
    telling = carrying(np.where(FRAUD, 1.0, 0.5), 'a "quoted": [name], {é}')
    named = trained(tmp_path, telling, trees=2, trusted=('attributes.a "quoted": [name], {é}',))

    assert named.manifest.features[-1] == 'attributes.a "quoted": [name], {é}'


def test_eight_times_as_many_rows_are_encoded_in_eight_times_the_time_or_so() -> None:
    encoded([Payment(0, "a")])  # compiled
    few, many = (history_of(rows) for rows in (50_000, 400_000))

    assert least_work(many) < 24 * least_work(few)  # 64 times, were it with the square


def history_of(rows: int) -> Callable[[], None]:
    random = np.random.default_rng(0)
    at = np.sort(random.integers(0, 60 * 86_400_000_000, rows))
    ids = pl.Series(np.arange(rows)).cast(pl.String)
    transactions = pl.DataFrame(
        {
            "account_id": ids,
            "transaction_id": ids,
            "occurred_at": pl.Series(at).cast(pl.Datetime("us", "UTC")),
            COLUMN: pl.Series(random.integers(0, 5_000, rows)).cast(pl.String),
        }
    )
    told = transactions.gather_every(50).with_columns(
        pl.lit(value=True).alias("is_fraud"), (pl.col("occurred_at") + DELAY).alias("known_at")
    )
    past = KnownPast(transactions=transactions, labels=told, is_fraud=np.zeros(rows, bool), until=datetime.max)

    def encode() -> None:
        History(past, np.ones(rows, bool), [COLUMN], TrainingSettings()).as_they_occurred()

    return encode
