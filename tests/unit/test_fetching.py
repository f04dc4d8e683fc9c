"""A worker fetches bundles with what its environment has, and that is nothing that learns."""

from __future__ import annotations

import subprocess
import sys

from deploy.local.jars import PROJECT

_SEE = "import sys, training.fetching; print(*{name.partition('.')[0] for name in sys.modules})"


def test_to_fetch_takes_nothing_that_learns_archives_or_exports() -> None:
    done = subprocess.run([sys.executable, "-c", _SEE], cwd=PROJECT, capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert "training" in loaded
    assert not loaded & {
        "deltalake",
        "imblearn",
        "lightgbm",
        "onnx",
        "optuna",
        "pyarrow",
        "sklearn",
        "sqlalchemy",
        "xgboost",
    }
