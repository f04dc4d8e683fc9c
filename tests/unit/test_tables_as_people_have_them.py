"""Amounts, currencies, ids and headers as people's exports have them: read as they were meant, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loadgen.drafting.draft import Draft, draft
from loadgen.mapping_command import summary
from schemas.encoding import encode_transactions
from schemas.errors import WrongSettings
from schemas.mapping import Rejected, TableMapping, read_past
from schemas.money import Amounts
from schemas.numerals import Numerals
from schemas.transaction import decode_transaction
from training.validating import validate

N = 60
AMOUNTS = [round(7.25 + 61.5 * n, 2) for n in range(N)]  # 7.25 to 3,635.75

PAYMENTS: dict[str, Sequence[object]] = {
    "txn_id": [f"T{n:03d}" for n in range(N)],
    "account": [f"A{n % 12}" for n in range(N)],
    "merchant": [f"M{n % 7}" for n in range(N)],
    "amount": AMOUNTS,
    "currency": ["EUR"] * N,
    "timestamp": [f"2024-01-{1 + n // 4:02d} {6 * (n % 4):02d}:10:00" for n in range(N)],
    "score": [round(-1.5 + n / 20, 3) for n in range(N)],
    "is_fraud": [int(n % 10 == 0) for n in range(N)],
}


def a_file(folder: Path, columns: Mapping[str, Sequence[object]], *, separator: str = ",", behind: str = "") -> Path:
    """A CSV file of payments with these columns instead of the usual ones, and more lines behind."""
    file = folder / "payments.csv"
    text = pl.DataFrame({**PAYMENTS, **columns}, strict=False).write_csv(separator=separator)
    file.write_text(text + behind, encoding="utf-8")
    return file


def by_its_draft(file: Path) -> tuple[Draft, pl.DataFrame, pl.DataFrame, list[Rejected]]:
    """What `loadgen mapping` says of it, and what that mapping reads."""
    drafted, rejected = draft(file), list[Rejected]()
    mapping = msgspec.toml.decode(drafted.toml, type=TableMapping)
    return drafted, *read_past(file, mapping, on_rejected=rejected.append), rejected


def says(drafted: Draft) -> dict[str, str]:
    return {each.key: each.value for each in drafted.guesses}


def unsure(drafted: Draft) -> dict[str, str]:
    return {each.key: each.why for each in drafted.guesses if not each.sure}


OWN = """
[transaction]
transaction_id = "txn_id"
account_id = "account"
counterparty_id = "merchant"
amount = "amount"
currency = "currency"
occurred_at = "timestamp"
[label]
is_fraud = "is_fraud"
"""


def by_own(file: Path, toml: str = OWN) -> tuple[pl.DataFrame, pl.DataFrame, list[Rejected]]:
    rejected = list[Rejected]()
    return *read_past(file, msgspec.toml.decode(toml, type=TableMapping), on_rejected=rejected.append), rejected


# Amounts


def grouped(amount: float, between: str, decimal: str) -> str:
    return f"{amount:,.2f}".replace(",", "\0").replace(".", decimal).replace("\0", between)


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("between", ["'", "\u2019", " ", "\u00a0", "\u202f", "\u2009", "_", ",", "."])
def test_thousands_are_read_whatever_stands_between_them(tmp_path: Path, between: str, decimal: str) -> None:
    if between == decimal:
        pytest.skip("one sign is one thing")
    file = a_file(tmp_path, {"amount": [grouped(one, between, decimal) for one in AMOUNTS]}, separator=";")

    drafted, transactions, labels, rejected = by_its_draft(file)

    assert transactions["amount"].to_list() == [round(100 * one) for one in AMOUNTS]
    assert "amount.thousands" in says(drafted)
    assert "amount.thousands" not in unsure(drafted)
    assert (labels.height, rejected) == (6, [])


@pytest.mark.parametrize("between", ["'", "\u2019", " ", "\u202f", "_"])
def test_what_can_stand_between_thousands_only_needs_no_setting(tmp_path: Path, between: str) -> None:
    file = a_file(tmp_path, {"amount": [grouped(one, between, ".") for one in AMOUNTS]})

    transactions, labels, rejected = by_own(file)

    assert transactions["amount"].to_list() == [round(100 * one) for one in AMOUNTS]
    assert (labels.height, rejected) == (6, [])


@pytest.mark.parametrize(("mark", "separator"), [(",", ","), (".", ";")])
def test_whole_amounts_with_a_mark_before_each_three_digits_are_to_be_checked(
    tmp_path: Path, mark: str, separator: str
) -> None:
    whole = [312 + 97 * n for n in range(N)]
    file = a_file(tmp_path, {"amount": [f"{one:,}".replace(",", mark) for one in whole]}, separator=separator)

    drafted, transactions, _, _ = by_its_draft(file)

    assert transactions["amount"].to_list() == [100 * one for one in whole]
    assert "followed by exactly three digits" in unsure(drafted)["amount.thousands"]


@pytest.mark.parametrize(
    ("numerals", "written", "number"),
    [
        (Numerals(), "12.00-", -12.0),
        (Numerals(), "(12.50)", -12.5),
        (Numerals(), "\u221212.50", -12.5),
        (Numerals(), "-$1'200.50", -1200.5),
        (Numerals(), "$ 12.50", 12.5),
        (Numerals(), "EUR 12.50", 12.5),
        (Numerals(), "12.50 chf", 12.5),
        (Numerals(), "12.-", 12.0),
        (Numerals(), "12.50 CR", -12.5),
        (Numerals(), "12.50DR", 12.5),
        (Numerals(), "1.5e3", 1500.0),
        (Numerals(), "12,50", None),
        (Numerals(), "1,234.50", None),
        (Numerals(), "12'34", None),
        (Numerals(), "+12.50", 12.5),
        (Numerals(), "+49 100 200", None),
        (Numerals(decimal=","), "1.10.345", None),
        (Numerals(), "(12.50", None),
        (Numerals(), "12 abc", None),
        (Numerals(), "inf", None),
        (Numerals(thousands=","), "12,34,567.89", 1234567.89),
        (Numerals(thousands=","), "1,23,456", 123456.0),
        (Numerals(thousands=","), "12,50", None),
        (Numerals(thousands=","), "1,234,5", None),
        (Numerals(decimal=","), "1.234.567,5", 1234567.5),
        (Numerals(decimal=","), "12.50", None),
        (Numerals(decimal=","), "12,\u2013 \u20ac", 12.0),
        (Numerals(decimal=","), "12,5 %", 12.5),
    ],
)
def test_a_number_is_read_as_it_was_meant_or_not_at_all(numerals: Numerals, written: str, number: float | None) -> None:
    assert numerals.read_series(pl.Series([written, "7"])).to_list() == [number, 7.0]


def test_an_amount_that_cannot_be_read_is_named_with_its_row_and_column(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"amount": [*AMOUNTS[:5], "1,234.50", *AMOUNTS[6:]]})

    transactions, _, (rejected,) = by_own(file)

    assert transactions.height == N - 1
    (example,) = rejected.examples
    assert example.startswith("row 5: amount can't be read as a number: `amount.decimal` and `amount.thousands`")
    assert "'amount' is '1,234.50'" in example


def test_a_statements_payments_are_negative_and_its_refunds_are_counted(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"amount": [-one if n % 20 else one for n, one in enumerate(AMOUNTS)]})

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    assert says(drafted)["amount.sign"] == '"negative"'
    assert "3 positive ones are rejected" in unsure(drafted)["amount.sign"]
    assert transactions.height == N - 3
    assert transactions["amount"].min() == 6875
    assert rejected.reasons == {"amount is positive, and `amount.sign` says that payments are negative": 3}


def test_payments_that_are_all_negative_are_drafted_so(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"amount": [-one for one in AMOUNTS]})

    drafted, transactions, labels, rejected = by_its_draft(file)

    assert transactions["amount"].to_list() == [round(100 * one) for one in AMOUNTS]
    assert "amount.sign" not in unsure(drafted)
    assert (labels.height, rejected) == (6, [])


def test_a_column_may_say_which_rows_are_payments(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"dc": ["C" if n % 5 == 1 else "D" for n in range(N)]})

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    assert (says(drafted)["amount.direction"], says(drafted)["amount.debits"]) == ('"dc"', '["D"]')
    assert "12 rows of the latter are no payments" in unsure(drafted)["amount.direction"]
    assert transactions.height == N - 12
    assert rejected.reasons == {"amount is a credit: `amount.debits` does not name its direction": 12}
    assert rejected.examples[0].endswith("('dc' is 'C')")


def test_where_debits_and_credits_have_columns_of_their_own_the_debits_are_the_amounts(tmp_path: Path) -> None:
    paid = [n % 6 != 1 for n in range(N)]
    split: dict[str, Sequence[object]] = {
        "amount": ["x"] * N,
        "debit": [one if yes else None for one, yes in zip(AMOUNTS, paid, strict=True)],
        "credit": [None if yes else one for one, yes in zip(AMOUNTS, paid, strict=True)],
    }
    drafted, transactions, _, (rejected,) = by_its_draft(a_file(tmp_path, split))

    assert says(drafted)["transaction.amount"] == '"debit"'
    assert transactions.height == sum(paid)
    assert rejected.reasons == {"amount is missing": N - sum(paid)}


@pytest.mark.parametrize("wrong", [{"decimal": ",", "thousands": ","}, {"direction": "dc"}, {"debits": ["D"]}])
def test_settings_of_amounts_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="both"):
        msgspec.convert(wrong, Amounts)


def test_a_draft_that_finds_no_amount_does_not_contradict_itself(tmp_path: Path) -> None:
    drafted = draft(a_file(tmp_path, {"amount": [f"about {n}" for n in range(N)]}))

    (missing,) = [each for each in drafted.missing if each.needed]
    assert missing.why.startswith("'amount' is called so, but 100% of its values, such as 'about 0', are no numbers")
    assert "Other columns of numbers: 'score'" in missing.why


def test_dinars_have_three_decimals(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"amount": [f"{one:.3f}" for one in AMOUNTS], "currency": ["kwd"] * N})

    _, transactions, _, rejected = by_its_draft(file)

    assert transactions["amount"].to_list() == [round(1000 * one) for one in AMOUNTS]
    assert rejected == []


@pytest.mark.parametrize("negative", [20, 30])
def test_amounts_of_both_signs_are_to_be_checked(tmp_path: Path, negative: int) -> None:
    file = a_file(tmp_path, {"amount": [-one if n < negative else one for n, one in enumerate(AMOUNTS)]})

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    frauds = negative // 10
    said = f"{negative} of 60 amounts looked at are negative, {frauds} of the 6 frauds among them, and are rejected"
    assert said in unsure(drafted)["amount.sign"]
    assert (transactions.height, rejected.count) == (N - negative, negative)


def test_an_amount_with_odd_values_is_still_the_amount_and_they_are_counted(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"amount": [one if n % 10 else "n.v." for n, one in enumerate(AMOUNTS)]})

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    assert "10% of its values, such as 'n.v.', are no numbers" in unsure(drafted)["transaction.amount"]
    assert (transactions.height, rejected.count) == (54, 6)


def test_amounts_of_fixed_width_are_amounts(tmp_path: Path) -> None:
    _, transactions, _, _ = by_its_draft(a_file(tmp_path, {"amount": [f"{one:010.2f}" for one in AMOUNTS]}))

    assert transactions["amount"].to_list() == [round(100 * one) for one in AMOUNTS]


def test_more_decimals_than_the_currency_has_are_to_be_checked(tmp_path: Path) -> None:
    drafted = draft(a_file(tmp_path, {"amount": [f"{1.001 + n / 7:.3f}" for n in range(N)]}))

    assert "more decimals than EUR has" in unsure(drafted)["amount.unit"]
    assert "such as '1.001'" in unsure(drafted)["amount.unit"]


def test_amounts_that_are_rounded_are_said_whatever_the_mapping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thousands = a_file(tmp_path, {"amount": ["912" if n < 2 else f"{1 + n}.{100 + n}" for n in range(N)]})

    by_own(thousands)

    assert "53 of 60 amounts of" in caplog.text
    assert (
        "have more decimals than their currency, and are rounded; the first: row 2 ('amount' is '3.102')" in caplog.text
    )


@pytest.mark.parametrize("amounts", [AMOUNTS, [1e10 + 0.07 * n for n in range(N)], [0.1 + 0.2] * N])
def test_amounts_of_floats_are_as_fine_as_their_currency(
    tmp_path: Path, amounts: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    by_own(a_file(tmp_path, {"amount": amounts}))

    assert "rounded" not in caplog.text


# Currencies


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("usd", "USD"), ("Usd", "USD"), ("USD ", "USD"), (" usd", "USD"), ("978", "EUR"), ("036", "AUD"), ("36", "AUD"),
        ("8", "ALL"), ("978.0", "EUR"), ("\u20ac", "EUR"), ("Euro", "EUR"), ("US$", "USD"), ("Swiss Franc", "CHF"),
    ],
)  # fmt: skip
def test_a_currency_is_read_however_it_is_written(tmp_path: Path, written: str, code: str) -> None:
    file = a_file(tmp_path, {"currency": [written] * N})

    drafted, transactions, _, rejected = by_its_draft(file)

    assert says(drafted)["transaction.currency"] == '"currency"'
    assert transactions["currency"].unique().to_list() == [code]
    assert (by_own(file)[0]["currency"].unique().to_list(), rejected) == ([code], [])


def test_a_currency_with_odd_values_is_still_the_currency_and_they_are_counted(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"currency": ["xx" if n % 10 == 1 else "eur" for n in range(N)]})

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    assert "10% of its values, such as 'xx', are none" in unsure(drafted)["transaction.currency"]
    assert (transactions["currency"].unique().to_list(), rejected.count) == (["EUR"], 6)


def test_numbers_of_currencies_may_be_numbers_in_the_table(tmp_path: Path) -> None:
    file = tmp_path / "payments.parquet"
    pl.DataFrame(PAYMENTS | {"currency": np.where(np.arange(N) % 2, 978, 36)}).write_parquet(file)

    _, transactions, _, _ = by_its_draft(file)

    assert transactions["currency"].to_list() == ["AUD", "EUR"] * (N // 2)


@pytest.mark.parametrize("written", ["$", "GBp", "credits", "000"])
def test_what_may_be_several_currencies_or_none_is_not_taken_for_one_unsaid(tmp_path: Path, written: str) -> None:
    file = a_file(tmp_path, {"currency": [written] * N})

    drafted = draft(file)
    transactions, _, (rejected,) = by_own(file)

    assert (
        f"'currency' is {'' if written == '$' else 'called so, but its values, such as '}{written!r}"
        in (unsure(drafted)["transaction.currency"])
    )
    assert transactions.is_empty()
    assert rejected.examples[0].endswith(f"('currency' is {written!r})")


def test_currencies_beside_the_amounts_are_each_rows_own(tmp_path: Path) -> None:
    amounts = [f"{'EUR' if n % 2 else 'GBP'} {one:.2f}" for n, one in enumerate(AMOUNTS)]
    file = a_file(tmp_path, {"amount": amounts}, separator=";")
    text = file.read_text().replace(";currency;", ";kind;")
    file.write_text(text)

    drafted, transactions, _, rejected = by_its_draft(file)

    assert says(drafted)["transaction.currency"] == '"amount"'
    assert transactions["currency"].to_list() == ["GBP", "EUR"] * (N // 2)
    assert transactions["amount"].to_list() == [round(100 * one) for one in AMOUNTS]
    assert rejected == []


def test_dollars_are_never_read_as_euros(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"amount": [f"${one}" if n < 3 else f"{one} EUR" for n, one in enumerate(AMOUNTS)]})

    transactions, _, (rejected,) = by_own(file)

    assert transactions.height == N - 3
    assert rejected.reasons == {"amount is in another currency than `currency` says": 3}


# Ids

SPELLINGS: list[Callable[[int], str]] = [
    lambda n: f"{n}.0",
    lambda n: f"4.{560 + n}E15",
    lambda n: f"4.{560 + n}e+15",
    lambda n: f"4,{560 + n}E+15",
    lambda n: f"{1 + n}e+05",
    lambda n: f"1.23456789{n:02d}E+17",
    lambda n: f"{1 + n % 9}E{15 + n}",
]


@pytest.mark.parametrize("field", ["txn_id", "account", "merchant"])
@pytest.mark.parametrize("written", SPELLINGS)
def test_ids_that_went_through_a_float_are_refused_in_every_spelling(
    tmp_path: Path, field: str, written: Callable[[int], str]
) -> None:
    ids = [written(n if field == "txn_id" else n % 8) for n in range(N)]
    file = a_file(tmp_path, {field: ids}, separator=";")

    transactions, labels, rejected = by_own(file, 'separator = ";"\n' + OWN)
    found = validate(transactions, labels, rejected=rejected)

    name = {"txn_id": "transaction_id", "account": "account_id", "merchant": "counterparty_id"}[field]
    (said,) = [each.says for each in found.refused if each.about == name]
    assert f"{N} of {N} ids are floats" in said
    assert repr(ids[0]) in said
    assert "messages will say" not in said
    assert transactions.height == (N if "." not in ids[0] and "," not in ids[0] and "+" not in ids[0] else 0)


@pytest.mark.parametrize(("kind", "first"), [(pl.Float64, 900_719_925_474_099_300), (pl.Float32, 20_000_000)])
def test_ids_that_a_float_cannot_hold_are_refused(tmp_path: Path, kind: type[pl.DataType], first: int) -> None:
    file = tmp_path / "payments.parquet"
    ids = pl.Series("account", [first + n % 12 for n in range(N)]).cast(kind)
    pl.DataFrame(PAYMENTS).with_columns(ids, pl.col("timestamp").str.to_datetime()).write_parquet(file)

    for toml in (OWN, OWN.replace('"account"', '{ pattern = "card-{account}" }')):
        transactions, labels, rejected = by_own(file, toml)
        refused = {each.about: each.says for each in validate(transactions, labels, rejected=rejected).refused}
        assert f"{N} of {N} ids are floats" in refused["account_id"]


def test_a_draft_says_of_an_account_that_has_become_one_why(tmp_path: Path) -> None:
    file = tmp_path / "payments.parquet"
    ids = pl.Series("account", [900_719_925_474_099_300 + n % 12 for n in range(N)]).cast(pl.Float64)
    pl.DataFrame(PAYMENTS).with_columns(ids).write_parquet(file)

    drafted = draft(file)

    (why,) = [each.why for each in drafted.missing if each.key == "transaction.account_id"]
    assert why.startswith("'account' is called so, but all its values are 9.007199254740993e+17, floats that have lost")
    assert "went through a float" in {each.column: each.why for each in drafted.drop}["account"]


def test_smaller_ids_that_are_floats_since_one_is_missing_are_whole_numbers(tmp_path: Path) -> None:
    file = tmp_path / "payments.parquet"
    ids = pl.Series("merchant", [None if n == 3 else 2**53 - 1 - n % 7 for n in range(N)]).cast(pl.Float64)
    pl.DataFrame(PAYMENTS).with_columns(ids, pl.col("timestamp").str.to_datetime()).write_parquet(file)

    transactions, _, rejected = by_own(file)

    assert transactions["counterparty_id"].head(4).to_list() == [str(2**53 - 1 - n) for n in range(3)] + [None]
    assert rejected == []


def test_ids_in_hexadecimal_digits_are_no_floats(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"account": ["4E15" if n % 12 == 0 else f"{n % 12:x}F1{n % 12:x}" for n in range(N)]})

    transactions, labels, rejected = by_own(file)

    assert rejected == []
    assert not [each for each in validate(transactions, labels).refused if each.about == "account_id"]


@pytest.mark.parametrize("name", ["label_id", "transaction_id", "account_id"])
def test_ids_of_labels_that_went_through_a_float_are_refused(tmp_path: Path, name: str) -> None:
    transactions, labels, _ = by_own(a_file(tmp_path, {}))

    found = validate(transactions, labels.with_columns(pl.lit("4.56E15").alias(name)))

    assert "ids of the labels are floats, such as '4.56E15'" in {each.about: each.says for each in found.refused}[name]


WORDS = [
    "NULL",
    "null",
    "nan",
    "NaN",
    "None",
    "\\N",
    "N/A",
    "#N/A",
    "NA",
    "-",
    "?",
    "<null>",
    "<NA>",
    "(null)",
    "",
    " ",
]


@pytest.mark.parametrize("word", WORDS)
def test_words_for_nothing_name_nobody_and_make_no_number_text(tmp_path: Path, word: str) -> None:
    some = {
        name: [word if n % 9 == at else one for n, one in enumerate(PAYMENTS[name])]
        for at, name in enumerate(("account", "merchant", "score"))
    }
    file = a_file(tmp_path, some)

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    assert says(drafted)["transaction.account_id"] == '"account"'
    assert rejected.reasons == {"account_id is missing": 7}
    assert transactions["counterparty_id"].null_count() == 7
    assert set(transactions["counterparty_id"].drop_nulls()) == set(PAYMENTS["merchant"])
    assert transactions.schema["attributes.score"] == pl.Float64
    assert transactions["attributes.score"].null_count() == 7


def test_the_words_for_nothing_are_a_setting(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"merchant": ["nobody" if n % 2 else "NULL" for n in range(N)]})

    transactions, _, _ = by_own(file, 'missing = ["nobody"]\n' + OWN)

    assert set(transactions["counterparty_id"]) == {"NULL", None}


def test_namibia_is_a_country(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"country": ["NA" if n % 2 else "DE" for n in range(N)]})

    drafted, transactions, _, _ = by_its_draft(file)

    assert says(drafted)["transaction.country"] == '"country"'
    assert set(transactions["country"]) == {"NA", "DE"}


def test_an_account_that_is_called_nothing_in_messages_is_odd(tmp_path: Path) -> None:
    transactions, labels, _ = by_own(a_file(tmp_path, {}))
    nobody = transactions.with_columns(
        pl.when(pl.int_range(pl.len()) % 9 > 0).then("account_id").otherwise(pl.lit("nan"))
    )

    (said,) = [each.says for each in validate(nobody, labels).odd if "'nan'" in each.says]

    assert "7 of 60" in said


@pytest.mark.parametrize("word", ["undefined", "Unknown", "none", "n.a.", "Infinity", "(empty)"])
def test_an_account_whose_name_says_that_there_is_none_is_odd(tmp_path: Path, word: str) -> None:
    file = a_file(tmp_path, {"account": [word if n % 9 == 0 else f"A{n % 12}" for n in range(N)]})
    transactions, labels, _ = by_own(file)

    (said,) = [each.says for each in validate(transactions, labels).odd if repr(word) in each.says]

    assert "7 of 60 are" in said
    assert "`missing` of the mapping" in said


@pytest.mark.parametrize("word", ["0", "-1", "99999999"])
def test_one_account_with_much_of_all_rows_is_asked_about(tmp_path: Path, word: str) -> None:
    ids = [word if n % 9 == 0 else f"{1_000 + n % 30}" for n in range(N)]
    transactions, labels, _ = by_own(a_file(tmp_path, {"account": ids}))

    (said,) = [each.says for each in validate(transactions, labels).odd if repr(word) in each.says]

    assert said.startswith(f"7 of 60 rows are of {word!r}: is it one account?")


def test_accounts_that_pay_about_as_often_as_others_are_not_asked_about(tmp_path: Path) -> None:
    ids = [f"A{n % 25}" for n in range(N)]
    transactions, labels, _ = by_own(a_file(tmp_path, {"account": ids}))

    assert not [each for each in validate(transactions, labels).odd if each.about == "account_id"]


def test_infinity_is_nobodys_id(tmp_path: Path) -> None:
    file = tmp_path / "payments.parquet"
    ids = pl.Series("account", [float("inf") if n % 9 == 0 else float(100 + n % 12) for n in range(N)])
    pl.DataFrame(PAYMENTS).with_columns(ids, pl.col("timestamp").str.to_datetime()).write_parquet(file)

    transactions, _, rejected = by_own(file)

    assert set(transactions["account_id"]) == {str(100 + n) for n in range(12)}
    assert [(each.count, dict(each.reasons)) for each in rejected] == [(7, {"account_id is missing": 7})]


def test_commas_between_the_thousands_of_ids_make_no_floats_of_those_that_end_in_zeros(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"account": [f"{100_000 + n % 12:,}" for n in range(N)]})

    assert by_own(file)[2] == []


def test_hexadecimal_ids_of_a_few_labels_are_no_floats_by_chance(tmp_path: Path) -> None:
    ids = ["4E15" if n % 10 == 0 else f"{n % 12:x}F1{n % 12:x}" for n in range(N)]  # each tenth row is a fraud
    transactions, labels, _ = by_own(a_file(tmp_path, {"account": ids}))

    assert labels["account_id"].unique().to_list() == ["4E15"]
    assert not [each for each in validate(transactions, labels).refused if each.about == "account_id"]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([n % 12 + 0.5 for n in range(N)], "its values, such as 0.5, have decimals, and ids have none"),
        ([None if n % 3 else f"A{n % 12}" for n in range(N)], "67% of the rows have none"),
        ([b"A1"] * N, "it is Binary, and ids are text or whole numbers"),
        ([None] * N, "it is empty in all rows looked at"),
        ([f"{n % 12}" * 200 for n in range(N)], "some of its values are over 128 bytes"),
    ],
)
@pytest.mark.parametrize(("name", "key"), [("account", "account_id"), ("merchant", "counterparty_id")])
def test_a_draft_says_of_a_column_that_is_called_an_id_why_it_is_none(
    tmp_path: Path, ids: list[object], why: str, name: str, key: str
) -> None:
    file = tmp_path / "payments.parquet"
    frame = pl.DataFrame(PAYMENTS).with_columns(pl.Series(name, ids), pl.col("timestamp").str.to_datetime())
    frame.write_parquet(file)

    missing = {each.key: each.why for each in draft(file).missing}

    if key == "account_id" or "67%" not in why:  # a payment without a counterparty is one
        assert missing[f"transaction.{key}"].startswith(f"{name!r} is called so, but {why}: ")


# Columns that are called what no list has


@pytest.mark.parametrize(
    "names",
    [
        "id_transazione conto esercente importo valuta data_ora frode",
        "id_transacao conta estabelecimento valor moeda data fraude",
        "transactie_id rekening winkel bedrag valuta datum fraude",
        "id_transakcji konto sprzedawca kwota waluta data oszustwo",
        "identifiant compte commerçant montant devise date_heure fraude",
        "номер счёт магазин сумма валюта дата мошенничество",
        "交易号 账户 商户 金额 币种 时间 欺诈",
    ],
)
def test_columns_are_understood_in_other_languages(tmp_path: Path, names: str) -> None:
    file = tmp_path / "payments.csv"
    ours = ("txn_id", "account", "merchant", "amount", "currency", "timestamp", "is_fraud")
    payments = pl.DataFrame(PAYMENTS).with_columns(currency=pl.lit("cny"))
    payments.rename(dict(zip(ours, names.split(), strict=True))).write_csv(file)

    _, transactions, labels, rejected = by_its_draft(file)

    assert (transactions.height, labels.height, rejected) == (N, 6, [])
    first = transactions.row(0, named=True)
    assert [first[name] for name in ("transaction_id", "account_id", "counterparty_id", "amount", "currency")] == [
        "T000", "A0", "M0", 725, "CNY",
    ]  # fmt: skip


def test_codes_of_currencies_are_never_read_as_euros_whatever_their_column_is_called(tmp_path: Path) -> None:
    file = tmp_path / "payments.csv"
    codes = ["usd" if n % 2 else "CHF" for n in range(N)]
    pl.DataFrame(PAYMENTS).with_columns(pl.Series("currency", codes)).rename({"currency": "geld"}).write_csv(file)

    drafted, transactions, _, _ = by_its_draft(file)

    assert transactions["currency"].unique().sort().to_list() == ["CHF", "USD"]
    assert unsure(drafted)["transaction.currency"] == "its values are codes of currencies, such as 'CHF'"


def test_ids_are_found_by_their_values_and_are_to_be_checked(tmp_path: Path) -> None:
    file = tmp_path / "payments.csv"
    mails = [f"a{n}@example.org" for n in range(N)]
    pl.DataFrame(PAYMENTS).rename({"txn_id": "row"}).with_columns(pl.Series("contact", mails)).write_csv(file)

    drafted, transactions, _, _ = by_its_draft(file)

    assert transactions["transaction_id"].to_list() == PAYMENTS["txn_id"]
    assert "each row has another, such as 'T000'" in unsure(drafted)["transaction.transaction_id"]


# Attributes


def test_an_attribute_that_a_few_words_make_text_is_to_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = a_file(tmp_path, {"score": ["n.v." if n == 7 else f"{n / 20:.3f}" for n in range(N)]})

    drafted = draft(file)

    (score,) = drafted.attributes
    assert score.odd.startswith("1 of 60 values, such as 'n.v.', are no numbers, so that all of it is text")
    assert any(score.odd in line for line in summary(drafted))
    assert score.odd in drafted.toml


@pytest.mark.parametrize("cents", [False, True])
def test_attributes_with_a_decimal_comma_are_numbers(tmp_path: Path, cents: bool) -> None:
    comma = [f"{one:.3f}".replace(".", ",") for one in np.linspace(-2, 4, N)]
    amounts = [725 + 137 * n for n in range(N)] if cents else [f"{one:.2f}".replace(".", ",") for one in AMOUNTS]
    file = a_file(tmp_path, {"score": comma, "amount": amounts}, separator=";")

    drafted, transactions, _, _ = by_its_draft(file)

    assert [each.column for each in drafted.attributes] == ["score"]
    assert transactions["attributes.score"].to_list() == [float(one.replace(",", ".")) for one in comma]


def test_attributes_with_percent_signs_and_thousands_are_numbers(tmp_path: Path) -> None:
    file = a_file(
        tmp_path,
        {"score": [f"{n / 2} %" for n in range(N)], "limit_left": [f"{900 + 131 * n % 4_000:,}" for n in range(N)]},
    )

    drafted, transactions, _, _ = by_its_draft(file)

    assert says(drafted)["numbers.thousands"] == '","'
    assert transactions["attributes.score"].to_list() == [n / 2 for n in range(N)]
    assert transactions["attributes.limit_left"].to_list() == [900 + 131 * n % 4_000 for n in range(N)]


def test_dots_of_a_table_with_decimal_commas_stand_between_thousands_unless_a_value_speaks_against_it(
    tmp_path: Path,
) -> None:
    whole, parts = [900 + 131 * n % 4_000 for n in range(N)], [round(0.236 + n / 8, 3) for n in range(N)]
    columns: dict[str, Sequence[object]] = {
        "score": [f"{one:,}".replace(",", ".") for one in whole],
        "other": parts,
        "amount": [f"{n},50" for n in range(N)],
    }
    file = a_file(tmp_path, columns, separator=";")

    transactions, _, _ = by_own(
        file, 'separator = ";"\nattributes = ["score", "other"]\n' + OWN + '[amount]\ndecimal = ","\n'
    )

    assert transactions["attributes.score"].to_list() == whole
    assert transactions["attributes.other"].to_list() == parts


# Headers and lines


def test_a_header_is_read_as_csv_says_and_live_messages_carry_the_same_names(tmp_path: Path) -> None:
    file = a_file(tmp_path, {})
    lines = file.read_text().replace(",score,", ',"risk ""v2""", Two Words ,').splitlines()
    lines[1:] = [line.rsplit(",", 1)[0] + ",7," + line.rsplit(",", 1)[1] for line in lines[1:]]
    file.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")

    _, transactions, _, _ = by_its_draft(file)
    message = decode_transaction(encode_transactions(transactions.head(1)).values[0])
    everything, _, _ = by_own(file, 'attributes = "*"\n' + OWN)

    assert message.attributes == {'risk "v2"': -1.5}
    assert [name for name in everything.columns if "." in name] == ['attributes.risk "v2"', "attributes.Two Words"]


def test_a_name_that_comes_twice_and_one_that_is_empty_go_along_with_nobody(tmp_path: Path) -> None:
    file = a_file(tmp_path, {"second": [n % 5 for n in range(N)], "third": [n % 3 for n in range(N)]})
    file.write_text(file.read_text().replace(",second,third", ",score,"))

    drafted = draft(file)

    assert {each.column: each.why for each in drafted.drop} == {
        "score_duplicated_0": "another column is called 'score' too, and a message carries one of a name",
        "": "it has no name, so that no message can carry it",
    }
    for asked in ('"*"', '["score"]'):
        with pytest.raises(
            WrongSettings, match=r"'score', and .* has two of that name: .* 'score_duplicated_0'.* `drop`"
        ):
            by_own(file, f"attributes = {asked}\n" + OWN)
    transactions, _, _ = by_own(file, 'attributes = "*"\ndrop = ["score_duplicated_0", ""]\n' + OWN)
    assert transactions["attributes.score"].to_list() == PAYMENTS["score"]


def test_a_name_that_differs_by_case_is_pointed_at(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=r"'Account', which .* does not have \(did you mean 'account'\?\)"):
        by_own(a_file(tmp_path, {}), OWN.replace('"account"', '"Account"'))


@pytest.mark.parametrize("times", [1, 2, 40])
def test_lines_that_come_again_leave_the_ids_what_they_are(tmp_path: Path, times: int) -> None:
    file = a_file(tmp_path, {})
    last = file.read_text().splitlines()[-1] + "\n"
    file.write_text(file.read_text() + times * last)

    drafted, transactions, _, _ = by_its_draft(file)

    assert says(drafted)["transaction.transaction_id"] == '"txn_id"'
    assert f"{times} of {N + times} rows repeat" in unsure(drafted)["transaction.transaction_id"]
    assert transactions["transaction_id"].to_list() == [*PAYMENTS["txn_id"], *["T059"] * times]


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        ("\n", "row is empty where the mapping looks"),
        ("\r\n" * 5, "row is empty where the mapping looks"),
        (",,,,,,,\n", "row is empty where the mapping looks"),
        (",".join(PAYMENTS) + "\n", "row repeats the header line"),
        ("Total,,,109259.50,,,,\n", "account_id is missing"),
        ("(60 rows),,,,,,,\n", "amount is missing"),
    ],
)
def test_lines_that_are_no_rows_spoil_nothing_and_are_counted(tmp_path: Path, behind: str, reason: str) -> None:
    file = a_file(tmp_path, {}, behind=behind)

    drafted, transactions, labels, (rejected,) = by_its_draft(file)

    assert says(drafted)["transaction.transaction_id"] == '"txn_id"'
    assert says(drafted)["transaction.amount"] == '"amount"'
    assert says(drafted)["label.is_fraud"] == '"is_fraud"'
    assert transactions["transaction_id"].to_list() == list(PAYMENTS["txn_id"])
    assert transactions.schema["attributes.score"] == pl.Float64
    lines = 5 if behind.startswith("\r") else 1
    assert (rejected.count, rejected.reasons, labels.height) == (lines, {reason: lines}, 6)
    assert rejected.examples[0].startswith("row 60")


def test_two_exports_glued_together_are_one_table(tmp_path: Path) -> None:
    file = a_file(tmp_path, {})
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:31], lines[0], *lines[31:]]) + "\n")

    drafted, transactions, _, (rejected,) = by_its_draft(file)

    assert [each.column for each in drafted.attributes] == ["score"]
    assert transactions["attributes.score"].to_list() == PAYMENTS["score"]
    assert rejected.reasons == {"row repeats the header line": 1}
