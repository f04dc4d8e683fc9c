"""Spoiled messages through a running worker, good ones in between, and whether each got what it must."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from schemas.errors import Fault
from schemas.topics import TRANSACTIONS
from schemas.verdict import Verdict
from tests.fleet.answers import Letter
from tests.fleet.fleet import Fleet, Sent, Worker
from tests.fleet.messages import Outgoing, message
from tests.poison.recipes import PARTITIONS, Recipe
from tests.poison.validator import Fields, judge

AT_ONCE = 2_000
"""Messages that are sent before anything is waited for."""
GOOD_EVERY = 4
"""After so many recipes comes a good transaction."""
SHOWN = 600
"""Bytes of a message that failed."""


@dataclass(frozen=True)
class Expected:
    """What must become of one message."""

    recipe: Recipe
    number: int
    message: Outgoing
    faults: frozenset[Fault]
    """Any of them, in its dead letter; none: it is accepted."""
    verdict: str | None
    """The transaction that it is, if it gets a verdict: a label and a duplicate get none."""


@dataclass
class Outcome:
    """What came of all."""

    sent: Counter[str] = field(default_factory=Counter)
    """By kind of breakage."""
    letters: Counter[str] = field(default_factory=Counter)
    """The same, of those with a dead letter."""
    errors: Counter[Fault] = field(default_factory=Counter)
    bytes: int = 0
    good: int = 0
    wrong: list[str] = field(default_factory=list)
    """What should not be, in words."""

    def __str__(self) -> str:
        lines = [f"{'fault':<22}{'sent':>9}{'dead letters':>14}{'accepted':>10}"]
        for fault, sent in sorted(self.sent.items()):
            dead = self.letters[fault]
            lines.append(f"{fault:<22}{sent:>9,}{dead:>14,}{sent - dead:>10,}")
        all_, dead = self.sent.total(), self.letters.total()
        lines.append(f"{'all':<22}{all_:>9,}{dead:>14,}{all_ - dead:>10,}")
        errors = ", ".join(f"{fault.value} {count:,}" for fault, count in self.errors.most_common())
        lines.append(f"{self.bytes / 1e6:,.0f} MB, {self.good:,} good ones in between; {errors}")
        return "\n".join(lines)


def send(fleet: Fleet, worker: Worker, recipes: Sequence[Recipe]) -> Outcome:
    """Through this worker, which has told nothing yet; and what came of it.  Raises where the worker ends."""
    outcome = Outcome()
    expected: dict[Sent, Expected] = {}
    for begin in range(0, len(recipes), AT_ONCE):
        batch = enumerate(recipes[begin : begin + AT_ONCE], begin)
        some = [one for number, recipe in batch for one in expected_of(recipe, number)]
        goods = fleet.life.transactions(len(some) // GOOD_EVERY)
        outgoing: list[tuple[Outgoing, Expected | None]] = []
        for number, one in enumerate(some):
            outgoing.append((one.message, one))
            if number % GOOD_EVERY == GOOD_EVERY - 1:
                good = goods[number // GOOD_EVERY]
                outgoing.append((message(good), None))
        places = fleet.send(each for each, _ in outgoing)
        expected |= {place: one for place, (_, one) in zip(places, outgoing, strict=True) if one is not None}
        outcome.good += len(goods)
        outcome.bytes += sum(len(each.value or b"") for each, _ in outgoing)
    fleet.wait_until_settled(600)
    verdicts = outcome.good + sum(one.verdict is not None for one in expected.values())
    letters = sum(bool(one.faults) for one in expected.values())
    try:
        fleet.wait_for(lambda heard: len(heard.verdicts) >= verdicts and len(heard.letters) >= letters, 30)
    except TimeoutError as error:
        outcome.wrong.append(f"{verdicts:,} verdicts and {letters:,} dead letters should have come: {error}")
    _compare(fleet, expected, outcome)
    if not worker.running:
        outcome.wrong.append(f"the worker ended with {worker.wait()}")
    return outcome


def expected_of(recipe: Recipe, number: int) -> Iterator[Expected]:
    """Of each of its messages, in order."""
    known: dict[str, Fields] = {}  # what was accepted of this account, which no other recipe's messages meet
    for one in recipe.cook(number):
        yield _expected(recipe, number, one, known)


def _expected(recipe: Recipe, number: int, one: Outgoing, known: dict[str, Fields]) -> Expected:
    assert one.timestamp is not None
    found = judge(one.topic.name, one.value, one.key, one.partition, one.timestamp, PARTITIONS)
    faults, verdict = found.faults, None
    if found.content is not None and one.topic is TRANSACTIONS:
        name = found.content["transaction_id"]
        if name not in known:
            known[name], verdict = found.content, name
        elif known[name] != found.content:
            faults = frozenset({Fault.ID_REUSED})
    return Expected(recipe, number, one, faults, verdict)


def _compare(fleet: Fleet, expected: dict[Sent, Expected], outcome: Outcome) -> None:
    letters, verdicts = defaultdict[Sent, list[Letter]](list), defaultdict[Sent, list[Verdict]](list)
    for letter in fleet.answers.letters:
        topic = letter.says.topic.removeprefix(fleet.settings.topic_prefix)
        letters[Sent(topic, letter.says.partition, letter.says.offset)].append(letter)
    for verdict in fleet.answers.verdicts:
        verdicts[Sent(TRANSACTIONS.name, verdict.source.partition, verdict.source.offset)].append(verdict)
    for place, one in expected.items():
        outcome.sent[one.recipe.fault] += 1
        outcome.letters[one.recipe.fault] += bool(one.faults)
        mine, told = letters.pop(place, []), verdicts.pop(place, [])
        outcome.errors.update(letter.says.fault for letter in mine)
        if wrong := _what_is_wrong(one, mine, told):
            outcome.wrong.append(_shown(one, wrong))
    # What is left are the good ones.
    outcome.wrong += [f"a dead letter of a good message: {letter.says}" for some in letters.values() for letter in some]
    outcome.wrong += [f"{place} has {len(some)} verdicts" for place, some in verdicts.items() if len(some) != 1]
    if len(verdicts) != outcome.good:
        outcome.wrong.append(f"{len(verdicts):,} of the {outcome.good:,} good ones have a verdict")


def _what_is_wrong(one: Expected, letters: list[Letter], verdicts: list[Verdict]) -> str | None:
    said = ", ".join(sorted(one.faults)) or "no error"
    if len(letters) != bool(one.faults):
        got = "; ".join(f"{letter.says.fault}: {letter.says.detail}" for letter in letters) or "none"
        return f"{len(letters)} dead letters, {got}; right is {said}"
    for letter in letters:
        if letter.says.fault not in one.faults:
            return f"{letter.says.fault} ({letter.says.detail}), and right is {said}"
        if (letter.key, letter.value) != (one.message.key, one.message.value):
            return "its dead letter has other bytes"
    if [verdict.transaction_id for verdict in verdicts] != ([] if one.verdict is None else [one.verdict]):
        return f"verdicts of {[verdict.transaction_id for verdict in verdicts]}, and right is {one.verdict}"
    return None


def _shown(one: Expected, wrong: str) -> str:
    value, key = one.message.value or b"", one.message.key
    more = f" … {len(value):,} bytes" if len(value) > SHOWN else ""
    return (
        f"number {one.number}, {one.recipe.fault!r} on {one.message.topic.name}: {wrong}\n"
        f"    structure {one.recipe.structure!s:.300} bytewise {one.recipe.bytewise!s:.300}\n"
        f"    key {key!r:.100} partition {one.message.partition} timestamp {one.message.timestamp}\n"
        f"    value {value[:SHOWN].hex()}{more}"
    )


def complaints(outcome: Outcome, most: int = 10) -> str:
    """The first of what is wrong, for people."""
    return f"{len(outcome.wrong):,} went wrong:\n" + "\n".join(outcome.wrong[:most])
