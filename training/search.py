"""What a search of parameters goes by (training/tuning.py)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec

from schemas import installation
from schemas.errors import WrongSettings


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How long, and by what.  Raises WrongSettings where that can't be meant."""

    folds: int = 3
    trials: int = 100
    """Of the study in all, also of earlier commands."""
    budget: timedelta = timedelta(minutes=10)
    """For this command's trials.  What is under way then is given up."""
    folder: Path = installation.tuning("")

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= 20:
            raise WrongSettings("folds must be from 2 to 20")
        if self.trials < 1:
            raise WrongSettings("trials must be at least 1")
        if self.budget <= timedelta(0):
            raise WrongSettings("budget must be above 0; write it as 10m or 2h")
