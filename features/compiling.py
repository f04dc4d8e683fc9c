"""How what numba compiles is compiled here, where that is kept, and what numba has no word for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """numba's `njit` for what is handed all of its arrays, and makes none: it doesn't count who holds them.

    Counting is two atomic instructions wherever a row or a column of an array is named, which was a third of the kernel's
    time.  The caller, in Python, holds each array until the call is over.  Such a function makes no array, which would not
    compile, returns none, not even a part of one it was given, and calls none but its like.
    """
    _compiled_apart()
    njit: Any = numba.njit  # its types leave `_nrt` out, which numba.extending.register_jitable describes
    decorated: Callable[[_Function], _Function] = njit(cache=True, nogil=True, _nrt=False, **options)
    return decorated


@lru_cache(maxsize=1)
def _compiled_apart() -> None:
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


def _move(_context: Any, rows: Any, _to: Any, _of: Any, _count: Any) -> Any:

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        to, of, count = (
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
        )
        target, source = (cgutils.gep_inbounds(builder, array.data, place) for place in (to, of))  # type: ignore[no-untyped-call]
        cgutils.raw_memmove(builder, target, source, count, array.itemsize)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp), generate


move: Any = intrinsic(_move)
"""`move(rows, to, of, count)`: so many rows of a contiguous array to another place in it; the two may overlap.

numba copies a record field by field, which took a third of the fold.
"""
