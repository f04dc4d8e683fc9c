"""What is compiled is handed its arrays, makes none, and counts no references to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import TypingError

from features.compiling import compiled

HEAD = np.dtype([("count", "<i8")])


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba can't say what code from its cache looks like."""
    compiled()  # the first call says where the cache is
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))


def raised(heads: Any, row: int) -> None:
    """Names a row, as the kernel does."""
    head = heads[row]
    if head.count < 9:
        head.count += 1


def references_counted(function: Any) -> bool:
    heads = np.zeros(3, HEAD)
    function(heads, 1)
    assert heads["count"].tolist() == [0, 1, 0]
    return any("NRT_incref" in code or "NRT_decref" in code for code in function.inspect_asm().values())


def test_no_reference_to_an_array_is_counted() -> None:
    assert not references_counted(compiled()(raised))
    assert references_counted(numba.njit()(raised)), "numba doesn't count any more: compiled() has nothing to leave out"


def test_a_function_that_makes_an_array_does_not_compile() -> None:
    @compiled()
    def made(n: int) -> Any:
        return np.zeros(n)

    with pytest.raises(TypingError, match="zeros"):
        made(3)
