"""Where numba keeps what it has compiled."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numba


def compiled_apart() -> None:
    """Functions decorated from here on have a cache of their own for the sources of this package.

    numba compiles what a module has imported, constants and functions, into its functions, and looks only at the age of
    the function's own file: with constants from elsewhere it would serve yesterday's code.  NUMBA_CACHE_DIR, where it is
    set, is where the folder is made; else beside the code, or in the user's cache where that can't be written.
    """
    here = Path(__file__).parent
    sources = hashlib.sha256()
    for file in sorted(here.glob("*.py")):
        sources.update(file.read_bytes())
    beside = here / "__pycache__"
    if "NUMBA_CACHE_DIR" in os.environ:
        root = Path(os.environ["NUMBA_CACHE_DIR"])
    elif os.access(beside if beside.exists() else beside.parent, os.W_OK):
        root = beside
    else:
        root = Path.home() / ".cache" / "fraud-scorer"
    cache = str(root / f"compiled-{sources.hexdigest()[:16]}")
    setattr(numba.config, "CACHE_DIR", cache)  # noqa: B010 - numba makes its settings as it goes
