"""What commands print for people."""

from __future__ import annotations

from rich.console import Console

_NO_END = 100_000


def console(*, stderr: bool = False) -> Console:
    """Bounded by a terminal's width, and by nothing where there is no terminal: what goes to a file or a pipe is whole.

    Square brackets are square brackets: messages and paths are full of them.
    """
    made = Console(stderr=stderr, highlight=False, markup=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=_NO_END)
