"""How a command ends: 0 well, 1 found something wrong, 2 wrong use or settings, 130 after Ctrl-C."""

from __future__ import annotations

import typer
from rich.console import Console

from schemas import masking
from schemas.errors import FraudScorerError, LogUnavailable
from training.errors import MLflowAway, ParityBroken, Refused


def run(app: typer.Typer) -> None:
    """As a program.  Raises SystemExit."""
    masking.guard_traces()
    try:
        app()
    except (ParityBroken, MLflowAway, Refused, LogUnavailable) as error:
        _fail(error, status=1)
    except (FraudScorerError, OSError) as error:
        _fail(error, status=2)


def warn(what: str) -> None:
    """A line on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"training: {masking.text(what)}", markup=False)


def _fail(error: Exception, *, status: int) -> None:
    warn(str(error))
    raise SystemExit(status)
