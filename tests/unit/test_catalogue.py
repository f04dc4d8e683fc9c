"""The catalogue, the kernel and the page name the same features, in one order."""

from __future__ import annotations

import numpy as np

from features.catalogue import CATALOGUE, DIGEST, FEATURES, column
from features.catalogue_page import PAGE, page
from tests.builders import Shelf, a_transaction, records
from tests.unit import oracle


def test_every_feature_has_one_name_and_a_meaning() -> None:
    assert len(set(FEATURES)) == len(FEATURES)
    assert all(feature.meaning and feature.name.isidentifier() for feature in CATALOGUE)
    assert len({feature.meaning for feature in CATALOGUE}) == len(FEATURES)
    assert [column(name) for name in FEATURES] == list(range(len(FEATURES)))


def test_every_feature_is_calculated_by_hand_too() -> None:
    of_the_transaction = {"amount", "amount_below_round", "hour", "weekday", "night"}
    of_the_account = set(oracle.Account(1, 1, 1).describe(oracle.Event(0, 0)))
    of_the_counterparty = set(oracle.of_nobody())

    assert of_the_transaction | of_the_account | of_the_counterparty == set(FEATURES)


def test_every_feature_is_filled() -> None:
    described = Shelf().describe(records([a_transaction(counterparty_id="bakery")]))

    assert not (described.vectors == -1).any()


def test_what_a_newcomer_has_is_what_the_catalogue_says() -> None:
    named = a_transaction(counterparty_id="bakery", country="DE", device_id="phone", category="food")
    vector = Shelf().describe(records([named])).vectors[0]

    for feature in CATALOGUE:
        value = vector[column(feature.name)]
        if feature.when_new == "missing":
            assert np.isnan(value), feature.name
        elif feature.when_new != "as it is":
            assert value == float(feature.when_new), feature.name


def test_without_a_counterparty_its_features_are_missing() -> None:
    vector = Shelf().describe(records([a_transaction(counterparty_id=None)])).vectors[0]

    assert all(np.isnan(vector[column(name)]) for name in oracle.of_nobody())
    assert vector[column("account_count_1h")] == 0


def test_bundles_in_use_were_made_for_this_catalogue() -> None:
    """Another digest refuses every bundle there is: change it knowingly."""
    assert DIGEST == "0d2972472b722243"


def test_the_page_is_made_from_the_catalogue() -> None:
    assert PAGE.read_text() == page(), "python -m features.catalogue_page --write"
