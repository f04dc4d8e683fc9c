"""One odd alert costs itself: it is passed over, counted and named, and the others get their reasons."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from confluent_kafka import Message
from xxhash import xxh3_64_hexdigest

from schemas.errors import UnusableModel
from schemas.transaction import Transaction
from schemas.verdict import Alert, Folded, Outcome, Reason, Source, Verdict
from schemas.wire import encode
from streaming.explaining import GIVE_UP_AFTER, Bundles, Explaining, Hopeless, Pending
from streaming.fetching import Fetcher
from streaming.settings import WorkerSettings
from tests.builders import NOON, a_transaction
from tests.intakes import LogMessage

NAME, UNKNOWN = "0123456789abcdef", "f" * 16
VECTOR = np.zeros(3, np.float32)


def an_alert(transaction_id: str, **fields: Any) -> Alert:
    raw = VECTOR.tobytes()
    verdict: dict[str, Any] = {
        "transaction_id": transaction_id, "account_id": "alice", "outcome": Outcome.REVIEW, "score": 0.5, "margin": 0.0,
        "bundle": NAME, "policy": "p", "vector_digest": xxh3_64_hexdigest(raw), "occurred_at": NOON, "decided_at": NOON,
        "source": Source(0, 0), "folded": Folded(0), "vector": b2a_base64(raw, newline=False).decode(),
    }  # fmt: skip
    return Alert(verdict=Verdict(**(verdict | fields)), transaction=a_transaction(transaction_id), reasons="pending")


class Explainer:
    """It fails on transactions that are called so."""

    def reasons(self, _vectors: object, transactions: Sequence[Transaction]) -> list[tuple[Reason, ...]]:
        if any(one.transaction_id == "odd" for one in transactions):
            raise OverflowError("cannot convert float infinity to integer")
        return [()] * len(transactions)


class FakeBundles:
    """Which knows one of them."""

    def explainer(self, name: str) -> tuple[Explainer, int]:
        if name == NAME:
            return Explainer(), len(VECTOR)
        if name == UNKNOWN:
            raise UnusableModel("it is not in the registry")
        raise Hopeless("no bundle's name")

    def tend(self) -> None:
        """Nothing is on its way."""


@pytest.fixture
def explaining() -> Explaining:
    it = Explaining(WorkerSettings())
    it.bundles = cast(Bundles, FakeBundles())
    return it


def explained(explaining: Explaining, *alerts: Alert) -> list[str]:
    pending = [Pending(0, offset, alert) for offset, alert in enumerate(alerts)]
    assert explaining._note_missing(pending, [0]) == []
    return [what.transaction_id for _, what in explaining._explain(pending)]


def passed_over(explaining: Explaining) -> float:
    return float(explaining.metrics.passed_over._value.get())


@pytest.mark.parametrize(
    "odd",
    [
        an_alert("odd"),
        an_alert("x", bundle="x" * 300),
        an_alert("x", bundle="../../etc/passwd"),
        an_alert("x", vector="ü"),
        an_alert("x", vector="%%%"),
        an_alert("x", vector=None),
        an_alert("x", vector_digest="0"),
    ],
    ids=lambda alert: repr(alert.verdict.bundle)[:20] + repr(alert.verdict.vector)[:8],
)
def test_an_odd_alert_is_passed_over_and_named_and_the_others_are_explained(
    explaining: Explaining, odd: Alert, caplog: pytest.LogCaptureFixture
) -> None:
    assert explained(explaining, an_alert("1"), odd, an_alert("2")) == ["1", "2"]
    assert passed_over(explaining) == 1
    assert "alerts [0] at 1 " in caplog.text


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[" * 100_000, b'{"verdict": ' * 20_000, b"null", b"1e999"])
def test_what_is_no_alert_at_all_is_passed_over(explaining: Explaining, value: bytes | None) -> None:
    messages = [LogMessage("alerts", 0, 0, content=value), LogMessage("alerts", 0, 1, content=encode(an_alert("good")))]
    (found,) = explaining._read(cast(Sequence[Message], messages))
    assert found.alert.verdict.transaction_id == "good"
    assert passed_over(explaining) == 1


class NothingFetched:
    """A registry that never has it."""

    def __init__(self) -> None:
        self.asked = 0

    def fetch(self, _digest: str) -> Path:
        self.asked += 1
        raise UnusableModel("it is not there")


def test_a_bundle_that_can_not_be_had_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    now, nothing = [0.0], NothingFetched()
    bundles = Bundles(WorkerSettings(bundle=str(tmp_path / "current")), lambda: now[0], cast(Fetcher, nothing))

    def asked() -> type[UnusableModel]:
        with pytest.raises(UnusableModel) as refused:
            bundles.explainer(UNKNOWN)
        return refused.type

    assert asked() is UnusableModel
    now[0] = GIVE_UP_AFTER
    assert asked() is UnusableModel
    now[0] = GIVE_UP_AFTER + 1
    assert asked() is Hopeless


def test_what_is_no_bundles_name_is_not_even_looked_for(tmp_path: Path) -> None:
    nothing = NothingFetched()
    bundles = Bundles(WorkerSettings(bundle=str(tmp_path / "current")), fetcher=cast(Fetcher, nothing))
    for name in ("", "x" * 300, "../..", "current"):
        with pytest.raises(Hopeless):
            bundles.explainer(name)
    assert nothing.asked == 0
