"""Every metric stands once, with what it is good for.  Updated a batch at a time, after the commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCIES = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    3600.0,
)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class BatchHistogram(Collector):
    """A Prometheus histogram that takes an array at once: a call a transaction would cost more than its features."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Iterable[float],
        registry: CollectorRegistry,
        label: str | None = None,
    ) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = np.array(list(buckets), np.float64)
        self._counts: dict[str, npt.NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, values: npt.NDArray[np.float64], label: str = "") -> None:
        """Add all of `values`."""
        where = np.searchsorted(self._bounds, values)
        counts = np.bincount(where, minlength=len(self._bounds) + 1)
        self._counts[label] = self._counts.get(label, 0) + counts
        self._sums[label] = self._sums.get(label, 0.0) + float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What Prometheus reads."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label] if self._label else [])
        for label, counts in sorted(self._counts.items()):
            upto = np.cumsum(counts)
            names = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
            family.add_metric(
                [label] if self._label else [],
                [(n, float(c)) for n, c in zip(names, upto, strict=True)],
                self._sums[label],
            )
        yield family


class Metrics:
    """One worker's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.transactions = Counter(
            "fraud_transactions", "Transactions that got a verdict, by its outcome.", ["outcome"], registry=r
        )
        self.pending = Counter(
            "fraud_pending_reasons",
            "Alerts that were told without their reasons, beyond the budget: the explainer's.",
            registry=r,
        )
        self.duplicates = Counter(
            "fraud_duplicates",
            "Transactions that came again with the same id and content: one verdict only.",
            registry=r,
        )
        self.late = Counter(
            "fraud_late", "Transactions older than the oldest event that their account's profile holds.", registry=r
        )
        self.degraded = Counter(
            "fraud_degraded",
            "Transactions judged as if they named no counterparty, since its profile could not be read in time.",
            registry=r,
        )
        self.labels = Counter("fraud_labels", "Labels folded.", registry=r)
        self.dead_letters = Counter(
            "fraud_dead_letters",
            "Messages that could not be judged, by error.  Anything above zero wants a look.",
            ["error"],
            registry=r,
        )
        self.folded = Counter(
            "fraud_folded", "Messages folded without being told, at a takeover or a rebuild.", registry=r
        )
        self.seen_to_told = BatchHistogram(
            "fraud_record_to_told_seconds",
            "From the record's timestamp to its committed verdict: what we add to a payment.",
            LATENCIES,
            r,
        )
        self.occurred_to_told = BatchHistogram(
            "fraud_occurred_to_told_seconds",
            "From occurred_at to the committed verdict: producers' delay included.",
            LATENCIES,
            r,
        )
        self.batch_sizes = BatchHistogram(
            "fraud_batch_messages", "Messages in a batch: grows by itself with the load.", SIZES, r
        )
        self.stages = BatchHistogram(
            "fraud_stage_seconds",
            "Time of a batch by stage: read, recall, describe, score, judge, tell, remember.",
            LATENCIES,
            r,
            label="stage",
        )
        self.lag = Gauge(
            "fraud_lag_messages",
            "Messages on the log that the profiles have not folded yet.",
            ["topic", "partition"],
            registry=r,
        )
        self.held = Gauge(
            "fraud_held_bytes",
            "Memory of transactions that wait to be judged; above half of FRAUD_HELD_BYTES no more are fetched.",
            registry=r,
        )
        ProcessCollector(registry=r)
        self.takeovers = Counter(
            "fraud_takeovers",
            "Partition numbers taken over, by cause; doubt: something moved under us.",
            ["cause"],
            registry=r,
        )
        self.parked = Gauge(
            "fraud_parked_partitions",
            "Partition numbers that this worker may not serve.  Above zero: read its log, it names the command.",
            registry=r,
        )
        self.redis_errors = Counter(
            "fraud_redis_errors", "Batches given back because Redis did not answer.", registry=r
        )
        self.kafka_errors = Counter(
            "fraud_kafka_errors", "Errors that the Kafka client told of, by name.", ["error"], registry=r
        )
        self.bundle = Gauge(
            "fraud_bundle_info",
            "1 for the bundles and policies in use: the champion judges; a challenger, or the former champion, scores along.",
            ["bundle", "policy", "role"],
            registry=r,
        )
        self.deployment = Gauge(
            "fraud_deployment_number",
            "Of the newest change on `models` that this worker has taken up; must be the same on all workers.",
            registry=r,
        )
        self.swaps = Counter("fraud_swaps", "Champions taken up, the first one included.", registry=r)
        self.refused = Gauge(
            "fraud_bundle_refused",
            "1 for each bundle that is deployed and not served here: the log says why.  Anything above zero wants a look.",
            ["bundle"],
            registry=r,
        )
        self.sent_back = Counter(
            "fraud_sent_back",
            "Bundles that this worker's guard has sent back, by the limit that was broken.",
            ["bundle", "limit"],
            registry=r,
        )
        self.bundle_failures = Counter(
            "fraud_bundle_failures",
            "Batches that one of two bundles failed on, and the other judged.  Anything above zero wants a look.",
            ["bundle"],
            registry=r,
        )
        self.canary = Counter(
            "fraud_canary_transactions",
            "Transactions that the challenger judged, by its outcome.",
            ["outcome"],
            registry=r,
        )
        self.trial = Gauge(
            "fraud_trial",
            "Of the model on trial, what was seen at the last look: transactions, accounts, drift, seconds and so on.",
            ["figure"],
            registry=r,
        )
