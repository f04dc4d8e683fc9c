"""The secret that ids are hashed by here (FRAUD_ID_KEY): made once, kept in `.local/id-key`, read by nobody but its owner."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deploy.local.jars import PROJECT

SETTING = "FRAUD_ID_KEY"
FILE = PROJECT / ".local" / "id-key"
_BYTES = 32


def id_key(environment: Mapping[str, str] = os.environ, file: Path = FILE) -> str:
    """The one that is set; else the file's, which is made, with mode 600, where it isn't there."""
    if environment.get(SETTING):
        return environment[SETTING]
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        if not file.exists():
            with open(unfinished, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as new:
                new.write(secrets.token_hex(_BYTES) + "\n")
            with suppress(FileExistsError):  # another process was first
                os.link(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return file.read_text().strip()
