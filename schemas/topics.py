"""Each topic: its name, its key, what it carries, how long it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KAFKA_ANSWERS_WITHIN = 4.0
"""Seconds for which a command waits for Kafka's first answer, before it says that there is none."""
DAY_MS = 86_400_000
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Topic:
    """`name` goes behind the prefix of the settings."""

    name: str
    key: str
    """Which field the key is, in UTF-8."""
    carries: str
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: int | None = None
    """None: as many as the settings say."""


_FOREVER = {"retention.ms": "-1"}

TRANSACTIONS = Topic(
    name="transactions",
    key="account_id",
    carries="Transaction",
    config={"retention.ms": str(45 * DAY_MS), "max.message.bytes": str(MIB)},
)
LABELS = Topic(
    name="labels",
    key="account_id",
    carries="Label",
    config={"retention.ms": str(45 * DAY_MS), "max.message.bytes": str(MIB)},
)
ACTIVITY = Topic(name="counterparty-activity", key="counterparty_id", carries="CounterpartyActivity", config=_FOREVER)
VERDICTS = Topic(name="verdicts", key="account_id", carries="Verdict", config=_FOREVER)
ALERTS = Topic(name="alerts", key="account_id", carries="Alert", config=_FOREVER | {"max.message.bytes": str(2 * MIB)})
EXPLANATIONS = Topic(name="explanations", key="account_id", carries="Explanation", config=_FOREVER)
DEAD_LETTERS = Topic(
    name="dead-letters",
    key="the message's own key",
    carries="the bytes as they came",
    config=_FOREVER | {"max.message.bytes": str(2 * MIB)},
)
MODELS = Topic(
    name="models",
    key="the registered model's name; <model>/<worker> of what a worker says",
    carries="Deployment, Serving",
    # Workers say every 20 s what they serve, and everybody reads all of it: it must stay short.
    config={
        "cleanup.policy": "compact",
        "segment.ms": "600000",
        "max.compaction.lag.ms": "1200000",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": "3600000",
    },
    partitions=1,
)

INPUTS = (TRANSACTIONS, LABELS, ACTIVITY)
"""What a worker reads, in the order of a position's offsets."""
OUTPUTS = (VERDICTS, ALERTS, ACTIVITY, DEAD_LETTERS)
ALL = (TRANSACTIONS, LABELS, ACTIVITY, VERDICTS, ALERTS, DEAD_LETTERS, EXPLANATIONS, MODELS)
DEFAULT_PARTITIONS = 4
