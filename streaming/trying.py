"""`python -m streaming.trying FOLDER`: whether the bundle there can be loaded and judged by.

A process of its own, which a bundle may end: compiled code that reads beyond its arrays raises nothing.  Exit status 0
where it can be served, 1 where it is refused; the last line says why.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from features.settings import load
from schemas import masking
from schemas.errors import FraudScorerError
from streaming.following import ready_scorer
from streaming.settings import WorkerSettings


def main() -> int:
    """See above."""
    settings = load(WorkerSettings, os.environ)
    try:
        ready_scorer(settings, settings.rules_of_past(), Path(sys.argv[1]))
    except FraudScorerError as error:
        print(masking.text(str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
