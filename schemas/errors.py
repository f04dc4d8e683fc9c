"""What can go wrong, told apart by what is done about it.

* FraudScorerError
  x BadMessage        dead-letter it: the same bytes will fail again in every fold, or are left out of it
  x TryAgain          wait, then take the same messages again
    + StoreUnavailable
    + CounterpartiesBehind
    + RegistryUnavailable
  x PositionMoved     somebody else wrote the profiles: take the partition over again
  x PartitionParked   leave this partition number out, raise the alarm, serve the others
  x LogUnavailable    a command ends (exit status 1); a worker asks again
  x UnusableModel     keep serving with the model at hand; at the start: wait for a usable one
  x WrongSettings     name it, start nothing (exit status 2)

Any other exception is a bug of ours.  The batch is halved until the message is found; that one is dead-lettered as
`bug`, so that nothing is lost while we look.  Where too many show it, or none alone, their partition is parked.
"""

from __future__ import annotations

from enum import StrEnum


class FraudScorerError(Exception):
    """The root of everything this project raises on purpose."""


class Fault(StrEnum):
    """Why a message is a dead letter: the `error` header, and the label of the metric."""

    NULL_VALUE = "null-value"
    INVALID_UTF8 = "invalid-utf8"
    NOT_JSON = "not-json"
    NOT_AVRO = "not-avro"
    NO_REGISTRY = "no-registry"
    UNKNOWN_SCHEMA = "unknown-schema"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    OUT_OF_RANGE = "out-of-range"
    UNKNOWN_CURRENCY = "unknown-currency"
    TIME_WITHOUT_ZONE = "time-without-zone"
    WRONG_KEY = "wrong-key"
    WRONG_PARTITION = "wrong-partition"
    OTHER_KEY = "other-key"
    FROM_THE_FUTURE = "from-the-future"
    ID_REUSED = "id-reused"
    TOO_LARGE = "too-large"
    BUG = "bug"
    LOST = "lost"
    """No message: records that were judged, or should have been, and are no longer in the log; somebody has accepted it."""


LEFT_OUT = frozenset((Fault.BUG, Fault.TOO_LARGE, Fault.NO_REGISTRY, Fault.UNKNOWN_SCHEMA))
"""Faults that the message's own bytes don't show: another release, another setting or a registry that has learnt meanwhile
would find nothing wrong.  What was dead-lettered for one of them is found by its dead letter, and left out of every fold."""


class LogUnavailable(FraudScorerError):
    """Kafka did not answer in time, or not all that was promised could be read."""


class BadMessage(FraudScorerError):
    """These bytes will never be a message: `fault` says what, `detail` says where and what would be right."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault
        self.detail = detail


class TryAgain(FraudScorerError):
    """Nothing is wrong with the message; what we lean on is away."""


class StoreUnavailable(TryAgain):
    """The profile store did not answer."""


class CounterpartiesBehind(TryAgain):
    """Counterparties of another worker's partition are being folded anew: what is there of them is too little."""


class RegistryUnavailable(TryAgain):
    """The schema registry did not answer, or no longer has what it had."""


class PositionMoved(FraudScorerError):
    """The profiles of a partition are not where this worker left them."""

    def __init__(self, partition: int, expected: bytes, found: bytes) -> None:
        super().__init__(f"partition {partition}: position is {found!r}, expected {expected!r}")
        self.partition = partition


class PartitionParked(FraudScorerError):
    """This partition can't be served before somebody mends it; the message says what would mend it.

    Raised while a batch is settled, `partition` says which number: nothing of the batch is told, that number is left
    out, and the others begin again where their profiles end.  None: the number that was asked about.
    """

    def __init__(self, message: str, *, partition: int | None = None) -> None:
        super().__init__(message)
        self.partition = partition


class UnusableModel(FraudScorerError):
    """A bundle that can't be served: truncated, made for another catalogue, or wrong on its golden rows."""


class WrongSettings(FraudScorerError):
    """A setting that is missing, wrong or forbidden; the message says what would be right."""
