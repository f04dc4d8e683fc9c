"""Which column is what, and why it looks so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from loadgen.drafting.columns import Column, Kind, Table
from loadgen.drafting.leakage import gives_away
from loadgen.drafting.money import currency, direction, no_numbers, of_codes, too_fine, why_no_amount
from loadgen.drafting.occurring import Occurring, known_at, not_read, occurring
from loadgen.drafting.times import share
from loadgen.drafting.toml import quoted
from loadgen.drafting.words import AN_ID, DIRECTED, FIELDS, YES, said
from schemas.ids import too_large
from schemas.money import currency_code
from schemas.numerals import Numerals
from schemas.wire import MAX_ID_BYTES

_ENOUGH: Final = 1.5
"""Below this score a name says too little."""
_SURE: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One line of the mapping."""

    key: str
    """Where it stands: `transaction.amount`."""
    value: str
    """In TOML."""
    why: str
    columns: tuple[str, ...] = ()
    sure: bool = True
    """Otherwise somebody should look."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What nothing was found for."""

    key: str
    needed: bool
    """Whether a mapping can't do without."""
    why: str


@dataclass(kw_only=True)
class Guesses:
    """All that was found, and what was not."""

    found: dict[str, Guess] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    fraud: pl.Series | None = None
    """For each row of the sample whether the label says so."""

    def used(self) -> set[str]:
        """Columns that have found their fields."""
        return {name for guess in self.found.values() for name in guess.columns}

    def add(self, guess: Guess) -> None:
        self.found[guess.key] = guess

    def miss(self, key: str, why: str, *, needed: bool = False) -> None:
        self.missing.append(Missing(key=key, needed=needed, why=why))


def guess(table: Table) -> Guesses:
    """Never fails, whatever the table holds."""
    guesses = Guesses()
    usable = [column for column in table.columns if column.kind not in (Kind.NOTHING, Kind.OTHER)]
    _label(usable, guesses)
    free = [column for column in usable if column.name not in guesses.used()]
    time = occurring(free)
    _times(time, free, guesses)
    _fields([column for column in free if column.name not in guesses.used()], table, guesses)
    _known(free, time, guesses)
    _amounts(table, guesses)
    _what_may_be_left_out(usable, table.columns, guesses)
    return guesses


def _label(columns: list[Column], guesses: Guesses) -> None:
    best: tuple[float, Column, str] | None = None
    for column in columns:
        score, word = FIELDS["is_fraud"].score(column.words)
        if score >= _ENOUGH and column.distinct <= 2 and column.kind in (Kind.NUMBER, Kind.BOOLEAN, Kind.TEXT):
            best = max(best or (0.0, column, word), (score, column, word), key=lambda each: each[0])
    if best is None:
        two = _listed(column.named for column in columns if column.distinct == 2)
        guesses.miss(
            "label.is_fraud",
            "no column of two values is called fraud, label or class: without labels nothing can be learnt"
            + (f". Columns of two values: {two}" if two else ""),
        )
        return
    score, column, word = best
    values = column.present.value_counts(sort=True, name="rows")
    kept = [(value, int(rows)) for value, rows in values.iter_rows()]
    plain = {_plain(value) for value, _ in kept}
    # Of 1 and 0 the 1 means fraud; of 1 and 2 nobody can tell.
    worded = [value for value, _ in kept if _plain(value) in YES and (_plain(value) != "1" or plain <= {"0", "1"})]
    fraud, by_name = (worded[0], True) if len(worded) == 1 else (kept[-1][0], False)
    if len(kept) == 1 and not worded:
        fraud, by_name = 1, False
        why = f"it has one value only, {_shown(kept[0][0])}: which one means fraud isn't to be seen"
    else:
        rows = next(rows for value, rows in kept if value == fraud)
        others = next((value for value, _ in kept if value != fraud), None)
        share = f"{rows:,} of {len(column.present):,} rows looked at are {_shown(fraud)}"
        rest = "" if others is None else f", the others {_shown(others)}"
        why = share + rest + ("" if by_name else ": it is the rarer one")
    guesses.add(
        Guess(
            key="label.is_fraud",
            value=quoted(column.name),
            columns=(column.name,),
            why=f"{word!r} in its name, and it has {'two values' if len(kept) == 2 else 'one value'}",
            sure=score >= _SURE,
        )
    )
    guesses.add(Guess(key="fraud_values", value=f"[{_toml_value(fraud)}]", why=why, sure=by_name))
    guesses.fraud = (column.values == fraud).fill_null(value=False) if len(kept) == 2 else None


def _times(time: Occurring | None, columns: list[Column], guesses: Guesses) -> None:
    if time is None:
        guesses.miss(
            "transaction.occurred_at",
            not_read(columns)
            or "no column of timestamps, and none of numbers that is called time, step, seconds, hours or epoch",
            needed=True,
        )
        return
    guesses.add(
        Guess(key="transaction.occurred_at", value=time.value, columns=time.columns, why=time.why, sure=time.sure)
    )
    for key, (value, why, sure) in time.settings.items():
        guesses.add(Guess(key=f"time.{key}", value=value, why=why, sure=sure))


def _known(columns: list[Column], time: Occurring | None, guesses: Guesses) -> None:
    if time is None or guesses.fraud is None:
        return
    for column in columns:
        score, word = FIELDS["known_at"].score(column.words)
        if column.name in guesses.used() or score < _ENOUGH or column.kind is not Kind.TIME:
            continue
        filled = column.told
        if not guesses.fraud.any() or float((filled & guesses.fraud).sum()) < 0.5 * float(filled.sum()):
            continue
        value = known_at(column, time)
        if value is not None:
            why = f"{word!r} in its name, and it is filled in where the label says fraud"
            guesses.add(Guess(key="label.known_at", value=value, columns=(column.name,), why=why, sure=score >= _SURE))
            return


Fit = Callable[[Column], tuple[float, str] | None]
"""How much the values speak for a field, and what of them does; None: they can't be it."""


def _an_id(column: Column) -> tuple[float, str] | None:
    if column.kind not in (Kind.NUMBER, Kind.TEXT) or (column.kind is Kind.NUMBER and not column.whole):
        return None
    if (column.text.str.len_bytes().max() or 0) > MAX_ID_BYTES:  # type: ignore[operator]
        return None
    worth = 0.5 * bool(said(column.words, AN_ID)) + 1.0 * bool(set(column.words) & DIRECTED)
    if column.distinct <= 20 < len(column.values) / 50:
        worth -= 1.5  # a kind of card, rather than a card
    if column.distinct < 2 < len(column.values):
        return None
    return worth, f"{column.distinct:,} different in {len(column.values):,} rows looked at"


def _an_account(column: Column) -> tuple[float, str] | None:
    fit = _an_id(column)
    if fit is None or column.missing > _MOST_MISSING:
        return None
    return fit[0] - 5 * column.missing, fit[1]


def _an_amount(column: Column) -> tuple[float, str] | None:
    surely = said(column.words, FIELDS["amount"].surely) is not None
    if surely and column.kind is Kind.TEXT and column.numbers.count() > _HALF * len(column.present):
        return _DOUBTFUL, f"{column.smallest:,.10g} to {column.largest:,.10g}, but {no_numbers(column)}"
    if column.kind is not Kind.NUMBER or column.largest == column.smallest == 0:
        return None
    negative = share(column.numbers.drop_nulls() < 0)
    if _HALF < negative < (_HALF if surely else _MOSTLY):
        return None
    if not surely and (column.zero_padded or column.distinct <= 2):
        return None
    return 0.0, f"{column.smallest:,.10g} to {column.largest:,.10g}"


def _a_currency(column: Column) -> tuple[float, str] | None:
    if column.kind not in (Kind.TEXT, Kind.NUMBER) or column.distinct > _MOST_CURRENCIES:
        return None
    codes = {text: currency_code(text) for text in column.text.unique()}
    read = column.text.is_in([text for text, code in codes.items() if code])
    if share(read) <= _HALF:
        return None
    first = str(column.text.filter(read)[0])
    such = f"such as {_shown(first)}" + ("" if codes[first] == first else f", read as {codes[first]}")
    if read.all():
        return 0.0, such
    odd = f"{1 - share(read):.0%} of its values, such as {_shown(column.text.filter(~read)[0])}, are none"
    return _DOUBTFUL, f"{such}, but {odd}"


def _like(pattern: str, *, most: int | None = None) -> Fit:
    def fit(column: Column) -> tuple[float, str] | None:
        if column.kind not in (Kind.TEXT, Kind.NUMBER) or not column.text.str.contains(pattern).all():
            return None
        if most is not None and not 2 <= column.distinct <= most:
            return None
        return 0.0, f"such as {_shown(column.present[0])}"

    return fit


def _a_degree(most: float) -> Fit:
    def fit(column: Column) -> tuple[float, str] | None:
        if column.kind is not Kind.NUMBER or column.smallest < -most or column.largest > most or column.distinct < 2:
            return None
        here = 1.0 if said(column.words, _PLACE_OF_PAYMENT) else 0.0
        return here, f"{column.smallest:,.4g} to {column.largest:,.4g}"

    return fit


def _minutes(column: Column) -> tuple[float, str] | None:
    if (
        not column.whole
        or max(-column.smallest, column.largest) > 14 * 60
        or max(-column.smallest, column.largest) < 30
    ):
        return None
    return 0.0, f"{column.smallest:,.4g} to {column.largest:,.4g} minutes"


_HALF: Final = 0.5
_MOST_MISSING: Final = 0.2
_DOUBTFUL: Final = -1.5
"""Taken off the score of a column of which some values are not what they should be: somebody should look."""
_MOSTLY: Final = 0.8
_MOST_CURRENCIES: Final = 300
_REPEATED: Final = 0.02
"""Of the rows, at most, may repeat another's id, or have none: more is no id of transactions."""
_TOLD_OF_ALL: Final = frozenset({"transaction_id", "account_id", "amount", "currency"})
"""What every transaction has, and has from its beginning."""
_PLACE_OF_PAYMENT: Final = frozenset({"merch", "merchant", "terminal", "transaction", "trans", "tx", "shop", "store"})
_FIT: Final[dict[str, Fit]] = {
    "transaction_id": _an_id,
    "account_id": _an_account,
    "counterparty_id": _an_id,
    "amount": _an_amount,
    "currency": _a_currency,
    "utc_offset": _minutes,
    "channel": _like("^.{1,64}$", most=50),
    "category": _like("^.{1,64}$", most=2_000),
    "country": _like("^[A-Z]{2}$"),
    "latitude": _a_degree(90),
    "longitude": _a_degree(180),
    "device_id": _an_id,
    "ip": _like(r"^[0-9a-fA-F.:]{3,45}$"),
}


def _fields(columns: list[Column], table: Table, guesses: Guesses) -> None:
    """The best pair of field and column first, until nothing is left that speaks for itself."""
    pairs: list[tuple[float, str, Column, str]] = []
    for name, fits in _FIT.items():
        for column in columns:
            score, word = FIELDS[name].score(column.words)
            if name == "transaction_id" and score < _SURE and not _names_a_transaction(column):
                continue
            if score and (fit := fits(column)) is not None and score + fit[0] >= _ENOUGH:
                pairs.append((score + fit[0], name, column, f"{word!r} in its name; {fit[1]}"))
    pairs.sort(key=lambda pair: -pair[0])
    for score, name, column, why in pairs:
        key = f"transaction.{name}"
        if key in guesses.found or column.name in guesses.used():
            continue
        if name not in _TOLD_OF_ALL and guesses.fraud is not None and gives_away(column, guesses.fraud.to_numpy()):
            continue
        if name == "transaction_id":
            told = _tells_apart(column, table)
            if told is None:
                continue
            # Told apart by the whole table.
            why, score = f"{why.split(';')[0]}; {told}", _SURE if told == _EACH else 0.0  # noqa: PLW2901
        guesses.add(Guess(key=key, value=quoted(column.name), columns=(column.name,), why=why, sure=score >= _SURE))
    _what_no_name_says(columns, table, guesses)


def _what_no_name_says(columns: list[Column], table: Table, guesses: Guesses) -> None:
    """By its values alone: an id, and an amount, where one column only can be it."""
    if "transaction.transaction_id" not in guesses.found:
        like = [
            c for c in columns if c.name not in guesses.used() and _may_name_rows(c) and _tells_apart(c, table) == _EACH
        ]
        if len(like) == 1:
            why = f"{_EACH}, such as {_shown(like[0].text[0])}, though it isn't called so"
            value, names = quoted(like[0].name), (like[0].name,)
            guesses.add(Guess(key="transaction.transaction_id", value=value, columns=names, why=why, sure=False))
    if "transaction.amount" not in guesses.found:
        like = [c for c in columns if c.name not in guesses.used() and _has_cents(c)]
        if len(like) == 1:
            why = "the only column of numbers with two decimals"
            only = like[0]
            guesses.add(
                Guess(key="transaction.amount", value=quoted(only.name), columns=(only.name,), why=why, sure=False)
            )


_EACH: Final = "each row has another"


def _tells_apart(column: Column, table: Table) -> str | None:
    """In words how well an id tells rows apart; None: not well enough for a transaction's."""
    # Lines that stand in a table twice, as where exports overlap, are one transaction.
    allowed = _HALF if column.distinct == table.distinct else _REPEATED
    if column.distinct < (1 - allowed) * len(column.present) - 1:
        return None
    repeated, absent = table.told_apart(column.name)
    if (
        repeated > max(allowed * table.rows, 1)
        or absent > max(_REPEATED * table.rows, 1)
        or column.distinct < min(len(column.values), 2)
    ):
        return None
    some = (
        f", but {repeated:,} of {table.rows:,} rows repeat{'s' * (repeated == 1)} another's: the first counts"
        if repeated
        else ""
    )
    return _EACH + some + (f", but {absent:,} of {table.rows:,} rows have none, and are rejected" if absent else "")


def _may_name_rows(column: Column) -> bool:
    """Whether its values are like ids: of letters and digits, and nothing that is said of a person or a device."""
    if column.kind is not Kind.TEXT or any(FIELDS[name].score(column.words)[0] for name in ("ip", "device_id")):
        return False
    return bool(column.text.str.contains(r"^[\w./:#-]{1,64}$").all() and column.text.str.contains(r"\d").all())


def _names_a_transaction(column: Column) -> bool:
    return bool(said(column.words, AN_ID)) or len(column.words) == 1


def _has_cents(column: Column) -> bool:
    if column.kind is not Kind.NUMBER or column.smallest < 0:
        return False
    cents = column.numbers.drop_nulls() * 100
    return not column.whole and bool(((cents - cents.round()).abs() < 1e-6).all())


def _amounts(table: Table, guesses: Guesses) -> None:
    found = guesses.found.get("transaction.amount")
    if found is None:
        unused = [column for column in table.columns if column.name not in guesses.used()]
        called = "; ".join(why for column in unused if (why := why_no_amount(column)))
        numbers = _listed(c.named for c in unused if c.kind is Kind.NUMBER and not why_no_amount(c))
        why = called or "no column of numbers is called amount, value or price"
        guesses.miss(
            "transaction.amount", why + (f". Other columns of numbers: {numbers}" if numbers else ""), needed=True
        )
        return
    column = next(each for each in table.columns if each.name in found.columns)
    how = column.written
    if how.numerals.decimal == ",":
        guesses.add(Guess(key="amount.decimal", value='","', why=how.why, sure=how.sure))
    if how.numerals.thousands is not None:
        guesses.add(Guess(key="amount.thousands", value=quoted(how.numerals.thousands), why=how.why, sure=how.sure))
    unit, why, sure = _unit(column)
    if (fine := too_fine(column, unit, _code_of(table, guesses))) is not None:
        why, sure = fine, False
    guesses.add(Guess(key="amount.unit", value=quoted(unit), why=why, sure=sure))
    _signs(column, table, guesses)


def _code_of(table: Table, guesses: Guesses) -> str | None:
    """The currency of most rows; None where it isn't found yet."""
    found = guesses.found.get("transaction.currency")
    column = next((each for each in table.columns if found is not None and each.name in found.columns), None)
    return None if column is None else currency_code(str(column.text.mode()[0]))


def _signs(amount: Column, table: Table, guesses: Guesses) -> None:
    """Which rows are payments, where others are there too."""
    negative, positive = amount.numbers < 0, amount.numbers > 0
    total = amount.numbers.count()
    if negative.sum() > positive.sum():
        others = f"; the {positive.sum():,} positive ones are rejected, as refunds would be" if positive.any() else ""
        why = f"{negative.sum():,} of {total:,} amounts looked at are negative, as payments are in a statement{others}"
        guesses.add(Guess(key="amount.sign", value='"negative"', why=why, sure=not positive.any()))
    elif negative.any():
        frauds = ""
        if guesses.fraud is not None:
            frauds = f", {(negative & guesses.fraud).sum():,} of the {guesses.fraud.sum():,} frauds among them,"
        why = f"{negative.sum():,} of {total:,} amounts looked at are negative{frauds} and are rejected, as refunds would be"
        either = '; if they are payments, say "negative", or "either" for both'
        guesses.add(Guess(key="amount.sign", value='"positive"', why=why + either, sure=False))
    for column in table.columns:
        if column.name not in guesses.used() and (said_so := direction(column)):
            debit, credit, rows = said_so
            why = (
                f"its values are {_shown(debit)} and {_shown(credit)}; the {rows:,} rows of the latter are no payments"
            )
            value = quoted(column.name)
            guesses.add(Guess(key="amount.direction", value=value, columns=(column.name,), why=why, sure=False))
            guesses.add(Guess(key="amount.debits", value=f"[{quoted(debit)}]", why="so it names payments", sure=False))
            return


def add_numbers(columns: Iterable[Column], guesses: Guesses) -> None:
    """`[numbers]`, where attributes and degrees are written otherwise than amounts."""
    asked = [column.written for column in columns if column.kind is Kind.NUMBER and column.type == pl.String]
    marked = [how for how in asked if how.numerals != Numerals()]
    if not marked:
        return
    amount = {
        key: guesses.found[f"amount.{key}"].value
        for key in ("decimal", "thousands")
        if f"amount.{key}" in guesses.found
    }
    how = max(marked, key=lambda each: sum(each.numerals == other.numerals for other in marked))
    decimal, thousands = how.numerals.decimal, how.numerals.thousands
    same_decimal = amount.get("decimal", '"."') == quoted(decimal)
    if same_decimal and (thousands is None or amount.get("thousands") == quoted(thousands)):
        return
    why = f"attributes are written so, {how.why}" if how.why else "attributes are written so"
    guesses.add(Guess(key="numbers.decimal", value=quoted(decimal), why=why, sure=how.sure))
    if thousands is not None:
        guesses.add(Guess(key="numbers.thousands", value=quoted(thousands), why=why, sure=how.sure))


def _unit(column: Column) -> tuple[str, str, bool]:
    if word := said(column.words, frozenset({"cents", "cent", "minor", "pence"})):
        return "minor", f"{word!r} in its name", True
    if not column.whole:
        return "major", "some have decimals", True
    ends = column.numbers.drop_nulls() % 100
    prices = share(ends.is_in([0.0, 50.0, 90.0, 95.0, 99.0]))
    if float(column.numbers.quantile(0.5) or 0) >= 1_000 and prices > 0.3 and share(ends == 0) < 0.9:
        return "minor", "whole numbers, many of which end like prices in cents", False
    return "major", 'whole numbers without decimals: if they are cents, say "minor"', False


def _what_may_be_left_out(columns: list[Column], every: Iterable[Column], guesses: Guesses) -> None:
    if "transaction.currency" not in guesses.found:
        amount = guesses.found.get("transaction.amount")
        paid = next((each for each in columns if amount is not None and each.name in amount.columns), None)
        value, why, sure = currency(paid, columns)
        names: tuple[str, ...] = ()
        codes = None if sure else of_codes(column for column in columns if column.name not in guesses.used())
        if codes is not None:
            value, names = quoted(codes.name), (codes.name,)
            why = f"its values are codes of currencies, such as {_shown(codes.text[0])}"
        guesses.add(Guess(key="transaction.currency", value=value, columns=names, why=why, sure=sure))
    if "transaction.account_id" not in guesses.found:
        repeated = _listed(
            column.named
            for column in columns
            if column.name not in guesses.used()
            and _an_account(column)
            and 20 < column.distinct < 0.7 * len(column.values)
        )
        why = _called_so("account_id", every, guesses) or "no column is called account, customer or card"
        guesses.miss(
            "transaction.account_id",
            f"{why}: each row gets an account of its own, and there are no habits to learn"
            + (f". Columns whose values come again: {repeated}" if repeated else ""),
        )
    if "transaction.counterparty_id" not in guesses.found:
        why = _called_so("counterparty_id", every, guesses) or "no column is called merchant, terminal or recipient"
        guesses.miss("transaction.counterparty_id", f"{why}: features of the counterparty will be missing")


def _called_so(field_: str, columns: Iterable[Column], guesses: Guesses) -> str | None:
    """Why the column that is surely called so is taken for no id; None: none is called so."""
    for column in columns:
        if column.name in guesses.used() or FIELDS[field_].score(column.words)[0] < _SURE:
            continue
        if (why := _why_no_id(column)) is not None:
            return f"{column.named} is called so, but {why}"
    return None


def _why_no_id(column: Column) -> str | None:  # noqa: PLR0911 - a table, read top to bottom
    if column.kind is Kind.NOTHING:
        return "it is empty in all rows looked at"
    if column.kind is Kind.OTHER:
        return f"it is {column.type}, and ids are text or whole numbers"
    if column.kind not in (Kind.NUMBER, Kind.TEXT):
        return f"its values are {column.kind.value}"
    if column.kind is Kind.NUMBER and not column.whole:
        odd = column.present.filter(column.numbers.drop_nulls() % 1 != 0) if column.type != pl.String else column.text
        return f"its values, such as {_shown(odd[0])}, have decimals, and ids have none"
    if column.distinct < 2:
        lost = ", floats that have lost their last digits" if too_large(column.present) else ""
        return f"all its values are {_shown(column.present[0])}{lost}"
    if (column.text.str.len_bytes().max() or 0) > MAX_ID_BYTES:  # type: ignore[operator]
        return f"some of its values are over {MAX_ID_BYTES} bytes"
    if column.missing > _MOST_MISSING:
        return f"{column.missing:.0%} of the rows have none"
    return None


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower().removesuffix(".0")


def _toml_value(value: object) -> str:
    """As `fraud_values` compares it: in small letters, whole numbers without a point."""
    plain = _plain(value)
    if isinstance(value, bool):
        return plain
    return (
        plain
        if plain.removeprefix("-").isdecimal() and plain.isascii() and str(int(plain)) == plain
        else quoted(str(value).strip())
    )


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
