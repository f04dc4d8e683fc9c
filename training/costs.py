"""What an outcome costs: a fraud that was missed, a review, a genuine payment that was declined."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.bundle import Thresholds

Rows = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """In minor units of the currency that profiles are kept in.

    A review finds out what it was: a reviewed fraud costs the review and no more.
    """

    missed_share: float = 1.0
    """Of a missed fraud: so much of its amount."""
    missed_fixed: float = 0.0
    """Of a missed fraud, beside the share: the chargeback's fee and handling."""
    review: float = 500.0
    wrong_decline: float = 2_000.0

    def approved(self, amounts: Ints, is_fraud: Rows) -> Floats:
        """What each row [n] costs if it is approved."""
        return np.where(is_fraud, self.missed_share * amounts + self.missed_fixed, 0.0)

    def declined(self, is_fraud: Rows) -> Floats:
        """What each row [n] costs if it is declined."""
        return np.where(is_fraud, 0.0, self.wrong_decline)

    def of(self, scores: Floats, amounts: Ints, is_fraud: Rows, thresholds: Thresholds) -> Floats:
        """What each row [n] costs with these `scores` under these `thresholds`."""
        looked_at = np.where(scores >= thresholds.review, self.review, self.approved(amounts, is_fraud))
        return np.where(scores >= thresholds.decline, self.declined(is_fraud), looked_at)
