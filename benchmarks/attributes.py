"""What attributes cost: a training's walk over a column, a worker's encoding of a transaction.

python -m benchmarks.attributes
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np

from features.attributes import Encoder
from loadgen.simulate import simulate, world_ending
from schemas.encoding import encode_transactions
from schemas.transaction import Transaction, decode_transaction
from training.attributes import History, choose
from training.settings import TrainingSettings
from training.split import KnownPast, known_at

CATEGORIES = ("channel", "category", "attributes.entry_mode")
MESSAGES = 20_000
REPEATS = 5


def main() -> None:
    """Prints the best of five."""
    world = simulate(world_ending(datetime(2026, 6, 1, tzinfo=UTC), 35, seed=7))
    past = known_at(None, world.transactions, world.labels)
    columns, _ = choose(past.transactions, None)
    for column in columns:
        seconds = min(_walked(past, column) for _ in range(REPEATS))
        print(f"{column:26s} {past.transactions.height / seconds:12,.0f} rows a second")
    messages = [decode_transaction(value) for value in encode_transactions(past.transactions.tail(MESSAGES)).values]
    encoder = _history(past, CATEGORIES).frozen(past.until)
    for batch in (1, 50, 500):
        seconds = min(_encoded(encoder, messages, batch) for _ in range(REPEATS))
        said = f"{len(CATEGORIES)} categories in batches of {batch}"
        print(f"{said:32s} {1e6 * seconds / len(messages):6.2f} us a transaction")


def _history(past: KnownPast, columns: tuple[str, ...]) -> History:
    return History(past, np.ones(past.transactions.height, np.bool_), columns, TrainingSettings())


def _walked(past: KnownPast, column: str) -> float:
    """Everything that a run does for a column."""
    began = time.perf_counter()
    history = _history(past, (column,))
    history.as_they_occurred()
    history.frozen(past.until).encode_table(past.transactions)
    return time.perf_counter() - began


def _encoded(encoder: Encoder, messages: list[Transaction], batch: int) -> float:
    began = time.perf_counter()
    for start in range(0, len(messages), batch):
        encoder.encode(messages[start : start + batch])
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
