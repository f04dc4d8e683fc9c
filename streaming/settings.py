"""What a worker is told at its start."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from features.settings import OWN, Settings
from features.store import MOST_AT_ONCE
from schemas import installation


class WorkerSettings(Settings, frozen=True, kw_only=True):
    """Settings of one worker.  Durations are in seconds."""

    slot: Annotated[int, Meta(ge=0, description="which worker of its group this is; no two may have the same")] = 0
    bundle: Annotated[
        str,
        Meta(
            min_length=1,
            description="folder of the bundle, or a link to it, to begin with where `models` names none; the topic prefix "
            "goes before `bundles` in the default",
            extra={OWN: installation.bundle},
        ),
    ] = installation.bundle("")
    batch: Annotated[int, Meta(ge=1, le=MOST_AT_ONCE // 2, description="most messages judged at once")] = 1000
    review: Annotated[
        float | None, Meta(description="score from which somebody looks at it; none: the bundle's own")
    ] = None
    decline: Annotated[float | None, Meta(description="score from which it is declined; none: the bundle's own")] = None
    vectors: Annotated[bool, Meta(description="put the vector into each verdict; its digest is always there")] = True
    reasons_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="of a worker's time, at most this share goes to reasons; the explainer tells the rest",
        ),
    ] = 0.05
    web_host: Annotated[str, Meta(description="where /metrics, /healthz and /readyz listen")] = "127.0.0.1"
    web_port: Annotated[int, Meta(ge=0, le=65535, description="their port")] = 6066
    explainer_port: Annotated[int, Meta(ge=0, le=65535, description="theirs, of the explainer")] = 6067
    session_timeout: Annotated[
        float, Meta(gt=0, description="after this long without a sign a worker's partitions go to others")
    ] = 6.0
    heartbeat: Annotated[float, Meta(gt=0, description="between two signs of life")] = 0.5
    transaction_timeout: Annotated[
        float, Meta(gt=0, description="after this long Kafka aborts a dead worker's transaction")
    ] = 6.0
    watchdog: Annotated[
        float, Meta(gt=0, description="a transactional call that lasts longer ends the process (librdkafka #5456)")
    ] = 15.0
    counterparty_wait: Annotated[
        float,
        Meta(
            ge=0,
            description="how long judging waits for counterparties that another worker still folds; then it does without",
        ),
    ] = 10.0
    merge_wait: Annotated[
        float,
        Meta(ge=0, description="while catching up, how long transactions wait for labels and activity of their time"),
    ] = 0.25
    dead_letter_bytes: Annotated[
        int, Meta(ge=1024, description="larger messages are dead-lettered by digest and head")
    ] = 2 * 1024 * 1024 - 65536
    held_bytes: Annotated[
        int,
        Meta(
            ge=16 << 20,
            description="memory for messages that wait to be judged, Kafka's client included; more stay on the log",
        ),
    ] = 256 << 20
    bug_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="of a partition's messages, at most this share is dead-lettered as `bug` (and 20); more park it",
        ),
    ] = 0.1
    mlflow_uri: Annotated[
        str, Meta(description="the model registry; a server (http…) is also asked for its aliases now and then")
    ] = "sqlite:///.local/mlflow/mlflow.db"
    mlflow_model: Annotated[
        str,
        Meta(
            min_length=1,
            description="the registered model whose versions are served; the topic prefix goes before the default",
            extra={OWN: installation.model},
        ),
    ] = installation.model("")
    mlflow_poll: Annotated[
        float, Meta(ge=0, description="between two looks at the server's alias `champion`; 0: never")
    ] = 5.0
    guard_window: Annotated[float, Meta(gt=0, description="what is looked back at of a model on trial,")] = 30.0
    guard_least: Annotated[int, Meta(ge=200, description="and further, until so many transactions are in sight")] = (
        20_000
    )
    guard_alerts: Annotated[
        float, Meta(gt=1, description="it goes with so many times more accounts flagged, or fewer, than the other has")
    ] = 2.0
    guard_drift: Annotated[
        float, Meta(gt=0, description="it goes with a larger stability index of its scores against the other's")
    ] = 1.0
    guard_seconds: Annotated[
        float, Meta(gt=0, description="it goes if it takes longer for a batch on average, and 3 times the other's")
    ] = 0.1
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="debug has a line for every batch")
    ] = "info"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.review is not None and self.decline is not None and self.review > self.decline:
            raise ValueError(f"FRAUD_REVIEW ({self.review}) must not be above FRAUD_DECLINE ({self.decline})")
        for name, threshold in (("REVIEW", self.review), ("DECLINE", self.decline)):
            if threshold is not None and not 0 <= threshold <= 1:
                raise ValueError(f"FRAUD_{name} is a score, from 0 to 1, not {threshold}")
        if self.heartbeat * 3 > self.session_timeout:
            raise ValueError("FRAUD_SESSION_TIMEOUT must be at least three times FRAUD_HEARTBEAT")

    @property
    def held_here(self) -> int:
        """Of `held_bytes`: what transactions may take that wait to be judged."""
        return self.held_bytes // 2

    def member(self, group: str, **own: str | int | float | bool) -> dict[str, Any]:
        """librdkafka's settings for a consumer that shares the partitions with others of its group.

        Its slot is its seat there: started again, it has its partitions back without a rebalance.  It commits with its
        outputs, and reads what is committed; where it begins, it says itself.

        What it has fetched may take a quarter of `held_bytes`, and one answer of the broker's more: an answer is fetched
        whole, and unpacked whole.
        """
        return self.client(
            group_id=group,
            group_instance_id=f"{group}-{self.slot}",
            enable_auto_commit=False,
            auto_offset_reset="error",
            isolation_level="read_committed",
            partition_assignment_strategy="range",
            session_timeout_ms=round(self.session_timeout * 1000),
            heartbeat_interval_ms=round(self.heartbeat * 1000),
            queued_max_messages_kbytes=self.held_bytes // 4 // 1024,
            fetch_max_bytes=max(self.held_bytes // 32, 2 << 20),
            **own,
        )
