"""docs/features.md, made from the catalogue: `python -m features.catalogue_page --write` after every change of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import log
from pathlib import Path

from features.catalogue import (
    CATALOGUE,
    DAY,
    DIGEST,
    FAR,
    MATURITY,
    PAYER_BUCKETS,
    SECOND,
    SEEN_BY_ACCOUNT,
    SETTLING,
    TYPICAL_OVER,
)
from features.profile import ACCOUNT, COUNTERPARTY, LATENESS, Shape

PAGE = Path(__file__).resolve().parent.parent / "docs" / "features.md"

_S, _D = SETTLING // SECOND, MATURITY // DAY
_KEPT = ", ".join(f"{kind}: {most}" for kind, most in SEEN_BY_ACCOUNT)
_MOST = round(PAYER_BUCKETS * log(2 * PAYER_BUCKETS))
_HEAD = f"""\
# Features: what the model is told

Made from [`features/catalogue.py`](../features/catalogue.py) by `python -m features.catalogue_page --write`; a test holds
the two equal. Catalogue `{DIGEST}`: a bundle made for another one is refused.

## What a window holds

Of what the log held before the transaction, without the transaction itself:

- **An account's window of width w** holds the payments with an age in [0, w), where the age is this transaction's
  `occurred_at` less theirs. Earlier ones of the same instant count: a burst sees itself. What happened later but came
  first does not.
- **A counterparty's window** ends {_S} seconds before the transaction, in training and in serving: it holds ages in
  [{_S} s, w). Payments take a round trip through Kafka to reach their counterparty, and what a replay sees at once a
  worker could not have seen.
- **A matured window** holds ages in [{_D} d, {_D} d + w), since a label may be expected after {_D} days: frauds over
  transactions there is a rate, and not biased by labels to come.
- **A fraud is known** to a transaction if, of its labels with a `known_at` no later than the transaction's `occurred_at`,
  the newest says fraud; of two with the same `known_at` it is the one that came last. No label that became known after
  the transaction occurred is seen by it.

## What is remembered in short

- **A typical payment** is a running mean of about the last {TYPICAL_OVER} payments, each cut to {FAR} times the mean before it,
  so that a single amount moves it by at most {FAR - 1} parts in {TYPICAL_OVER}. A payment *far above* was over {FAR} times
  what was typical when it came.
- **Different counterparties, countries, devices, channels** are counted exactly among those seen last
  ({_KEPT}). More are told as so many. "The account's first payment with this" means: not among these.
- **Different accounts at a counterparty** fall into {PAYER_BUCKETS} buckets, and are counted by how many of these are filled
  (linear counting): a root mean square error of 7 % up to 100 accounts, 11 % at 300; beyond {_MOST} none can be told.
- **How usual an hour or a weekday is** comes of counts that are all halved when one would pass 255.
- **Speed** takes the shortest way between two places, and at least a minute.

Amounts are in minor units of the currency that profiles are kept in (`FRAUD_CURRENCY`). Missing is NaN: a mean of nothing,
and everything about the counterparty where a transaction names none, or where the verdict is flagged `degraded`. Local time
is that of the message's own UTC offset. Every feature is a float32.
"""

_TAIL = """
## How much is remembered exactly

| | last events, exactly | of the days before its newest | older ones, in tiles, of | labels |
|---|---|---|---|---|
{shapes}

A tile holds the count, the sum, the largest and the sum of squares of neighbouring events, how many of them had each trait
and which buckets of accounts, and counts as of the time of its newest: what it holds is taken for at most 67 s, or an eighth
of its age, younger than it is. None is counted twice or lost.
What is older than the horizon (the longest window and {lateness} more, so that a transaction this late still has whole
windows) is forgotten.

**Labels** are exact within the bound above: the last so many, by `known_at`, of all transactions together. Told again,
late, in another order or withdrawn, they say what all of them say together. Of what falls off, frauds stay as counts of
the day on which they occurred (the last 64 such days; of more the oldest are added up); they are seen from when the
last of their day became known. Beyond the bound a label can't be told from one that is told again: a fraud among them
counts again then, and its withdrawal is not seen.

A `transaction_id` is recognised as a duplicate, or as used again, as long as the account's last events hold it.
"""


def page() -> str:
    """In Markdown."""
    return "\n".join([_HEAD, "## All of them, in the model's order", "", *_table(), _tail()])


def _table() -> Iterator[str]:
    yield "| | feature | unit | meaning | when new |"
    yield "|---|---|---|---|---|"
    for number, feature in enumerate(CATALOGUE):
        yield f"| {number} | `{feature.name}` | {feature.unit} | {feature.meaning} | {feature.when_new} |"


def _tail() -> str:
    def row(name: str, shape: Shape) -> str:
        return f"| {name} | {shape.events} | {shape.exact // DAY} | {shape.horizon // DAY} days | {shape.labels} |"

    shapes = "\n".join([row("account", ACCOUNT), row("counterparty", COUNTERPARTY)])
    return _TAIL.format(shapes=shapes, lateness=f"{LATENESS // DAY} day")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
    else:
        print(page(), end="")
