"""What a message carries becomes the same numbers as in the training's table, whatever type it comes with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.attributes import (
    LONGEST_VALUE,
    Attributes,
    CategoryColumn,
    Encoder,
    NumberColumn,
    Tally,
    names_of,
    written,
)
from features.catalogue import FEATURES, Unit
from schemas.bundle import ATTRIBUTES
from schemas.encoding import encode_transactions
from schemas.errors import UnusableModel
from schemas.transaction import Transaction, decode_transaction
from tests.builders import a_transaction
from tests.unit.pasts import a_past

MERCHANT = CategoryColumn(
    column="attributes.merchant_type",
    smoothing=50.0,
    all=Tally(1_000, 900, 8),
    unknown=Tally(100, 50, 5),
    values={"crypto": Tally(200, 150, 7), "7": Tally(300, 0, 0), "true": Tally(400, 400, 1), "": Tally(100, 100, 0)},
)
CHANNEL = CategoryColumn(column="channel", smoothing=50.0, all=Tally(10, 0, 0), values={"card": Tally(10, 0, 0)})
TIP, PRESENT = NumberColumn(column="attributes.tip"), NumberColumn(column="attributes.card_present", boolean=True)
PRIOR = (8 + 1) / (900 + 100)
UNKNOWN = (0.0, (5 + 50 * PRIOR) / (50 + 50))
ENCODER = Encoder(Attributes((CHANNEL, MERCHANT, TIP, PRESENT)))


def merchant(value: Any) -> tuple[float, float]:
    attributes = {} if value is None else {"merchant_type": value}
    return tuple(Encoder(Attributes((MERCHANT,))).encode([a_transaction(attributes=attributes)])[0].tolist())


def tip(value: Any) -> float:
    attributes = {} if value is None else {"tip": value}
    return float(Encoder(Attributes((TIP,))).encode([a_transaction(attributes=attributes)])[0, 0])


def test_a_category_is_its_frequency_and_its_fraud_rate_drawn_towards_all() -> None:
    assert merchant("crypto") == pytest.approx((0.2, (7 + 50 * PRIOR) / (150 + 50)))


def test_a_value_of_which_nothing_has_matured_has_the_fraud_rate_of_all() -> None:
    assert merchant("7") == pytest.approx((0.3, PRIOR))


def test_an_unknown_value_and_a_missing_one_are_told_apart() -> None:
    assert merchant("never seen") == pytest.approx(UNKNOWN)
    assert all(math.isnan(number) for number in merchant(None))


def test_before_anything_was_unknown_an_unknown_value_has_the_fraud_rate_of_all() -> None:
    (encoded,) = Encoder(Attributes((CHANNEL,))).encode([a_transaction(channel="pigeon")])

    assert encoded.tolist() == pytest.approx([0, 1 / 100])


@pytest.mark.parametrize("value", [7, 7.0])
def test_a_number_in_a_category_column_is_the_value_that_reads_so(value: float) -> None:
    assert merchant(value) == merchant("7")


def test_other_types_in_a_category_column() -> None:
    assert merchant(True) == merchant("true") != pytest.approx(UNKNOWN)
    assert merchant(1) == merchant(False) == merchant(0.5) == merchant(10**400) == pytest.approx(UNKNOWN)
    assert np.isnan(merchant("")).all(), "an empty text is missing, also where one was learnt"


def test_only_so_many_characters_of_a_value_count() -> None:
    long = "x" * LONGEST_VALUE
    column = msgspec.structs.replace(MERCHANT, values={long: Tally(5, 0, 0)})
    messages = [a_transaction(attributes={"merchant_type": value}) for value in (long, long + "and more", long[:-1])]
    frequency = Encoder(Attributes((column,))).encode(messages)[:, 0].tolist()

    assert frequency == pytest.approx([0.005, 0.005, 0])


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12.5, 12.5), (-3, -3), (True, 1), (False, 0), ("12.5", 12.5), ("-1e3", -1_000), ("true", 1), ("false", 0),
        (1e300, 3.4028234663852886e38), (2**60, 2.0**60),
    ],
)  # fmt: skip
def test_a_number_column_takes_numbers_booleans_and_text_that_is_one(value: Any, number: float) -> None:
    assert tip(value) == number


@pytest.mark.parametrize(
    "value",
    [None, "", "twelve", "1,5", " 1", "1_000", "nan", "inf", "Infinity", "1e400", "٣", "True", 10**400, -(10**400)],
)
def test_what_is_no_number_in_a_number_column_is_missing(value: Any) -> None:
    assert math.isnan(tip(value))


JSON_VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text("aZ7.-eé\x00", max_size=20)
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["merchant_type", "tip", "card_present", "else"]), JSON_VALUES), max_size=8
    )
)
def test_any_value_is_encoded_and_nothing_but_a_missing_one_is_missing_in_a_category(
    carried: list[dict[str, Any]],
) -> None:
    messages = [a_transaction(attributes=attributes) for attributes in carried]
    encoded = ENCODER.encode(messages)

    assert encoded.shape == (len(carried), len(ENCODER.features))
    assert not np.isinf(encoded).any()
    frequency = encoded[:, ENCODER.features.index("frequency(attributes.merchant_type)")]
    assert np.isnan(frequency).tolist() == [attributes.get("merchant_type", "") == "" for attributes in carried]


def test_a_batch_is_encoded_as_its_transactions_alone() -> None:
    values: list[Any] = ["crypto", 7, None, "new", True, "crypto", 10**400]
    messages = [a_transaction(attributes={} if v is None else {"merchant_type": v, "tip": v}) for v in values]
    alone = np.vstack([ENCODER.encode([message]) for message in messages])

    assert ENCODER.encode(messages).tobytes() == alone.tobytes()


def test_rows_and_the_messages_made_of_them_are_encoded_alike() -> None:
    transactions, _ = a_past(days=2)
    some: dict[str, list[Any]] = {
        "attributes.merchant_type": ["crypto", "7", "new", None, ""],
        "attributes.tip": [1.5, None, -0.1, 2.0**60, 0.0],
        "attributes.card_present": [True, False, None, True, False],
    }
    rows = len(transactions)
    transactions = transactions.with_columns(
        pl.Series(name, (values * rows)[:rows], strict=False) for name, values in some.items()
    )
    messages = [decode_transaction(value) for value in encode_transactions(transactions).values]

    assert ENCODER.encode_table(transactions).tobytes() == ENCODER.encode(messages).tobytes()


def test_a_column_that_a_table_lacks_is_missing_there() -> None:
    transactions, _ = a_past(days=1)

    assert np.isnan(Encoder(Attributes((MERCHANT, TIP))).encode_table(transactions)).all()


def test_the_columns_stand_behind_the_catalogues() -> None:
    vectors = np.ones((2, 3), np.float32)
    messages = [a_transaction(attributes={"tip": 4}), a_transaction()]
    whole = Encoder(Attributes((TIP,))).extend(vectors, messages)

    assert whole.dtype == np.float32
    assert whole[:, :3].tolist() == vectors.tolist()
    assert whole[0, 3] == 4
    assert np.isnan(whole[1, 3])
    assert Encoder(Attributes()).extend(vectors, messages) is vectors


def test_no_two_features_have_one_name_whatever_attributes_are_called() -> None:
    names = ["attributes.x", "attributes.frequency(attributes.x)", "attributes.amount", "attributes.channel", "channel"]
    numbers = [NumberColumn(column=name) for name in names]
    categories = [CategoryColumn(column=name, smoothing=1.0) for name in names]
    told = [name for column in numbers for name in names_of(column)]
    told += [name for column in categories for name in names_of(column)]

    assert len(set(told)) == len(told)
    assert not set(told) & set(FEATURES)


def words(transaction: Transaction) -> dict[str, str]:
    return {feature.name: feature.meaning for feature in ENCODER.words(transaction)}


def test_a_feature_is_worded_with_the_transactions_own_value() -> None:
    told = words(a_transaction(channel="card", attributes={"merchant_type": "crypto"}))

    assert tuple(told) == ENCODER.features
    assert told["fraud_rate(attributes.merchant_type)"] == "frauds among payments with merchant_type 'crypto'"
    assert told["frequency(channel)"] == "share of payments with channel 'card'"
    assert {feature.name: feature.unit for feature in ENCODER.words(a_transaction())} == {
        "frequency(channel)": Unit.RATIO, "fraud_rate(channel)": Unit.RATIO,
        "frequency(attributes.merchant_type)": Unit.RATIO, "fraud_rate(attributes.merchant_type)": Unit.RATIO,
        "attributes.tip": Unit.NUMBER, "attributes.card_present": Unit.YES,
    }  # fmt: skip


def test_a_value_that_says_little_is_worded_as_such() -> None:
    name = "fraud_rate(attributes.merchant_type)"

    assert words(a_transaction())[name] == "frauds among payments without merchant_type"
    assert words(a_transaction(attributes={"merchant_type": "zoo"}))[name] == (
        "frauds among payments with a merchant_type that is new or rare, as 'zoo' is"
    )
    assert len(words(a_transaction(attributes={"merchant_type": "z" * 10_000}))[name]) < 150


def test_what_is_written_is_loaded_again(tmp_path: Path) -> None:
    (tmp_path / ATTRIBUTES).write_bytes(written(ENCODER.attributes))
    loaded = Encoder.load(tmp_path)

    assert loaded.attributes == ENCODER.attributes
    assert loaded.columns == ENCODER.columns
    assert json.loads((tmp_path / ATTRIBUTES).read_bytes())["columns"][1]["values"]["crypto"] == [200, 150, 7]


def test_another_table_is_another_digest() -> None:
    other = Encoder(Attributes((msgspec.structs.replace(CHANNEL, unknown=Tally(1, 1, 1)), MERCHANT)))

    assert other.columns[0].digest != ENCODER.columns[0].digest
    assert other.columns[1] == ENCODER.columns[1]


@pytest.mark.parametrize("content", [b"", b"{}[", b'{"columns":[{"encoding":"hash","column":"x"}]}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ATTRIBUTES).write_bytes(content)
    with pytest.raises(UnusableModel, match=ATTRIBUTES):
        Encoder.load(tmp_path)
