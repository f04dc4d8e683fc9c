"""Whether what counterparties were told is hashed by this installation's key: a fold from nothing passes over what isn't."""

from __future__ import annotations

from features.accepting import Rules
from features.log import Log
from schemas.activity import decode_activity
from schemas.topics import ACTIVITY


def by_another_key(log: Log, number: int, rules: Rules) -> str | None:
    """What is to be done before this partition can be folded from nothing; None: it can.  Raises LogUnavailable."""
    last = log.last(ACTIVITY, number, decode_activity)
    if last is None or last.hashed_by == rules.keys.fingerprint:
        return None
    return (
        f"partition {number}: {log.settings.topic(ACTIVITY)} is hashed by {_named(last.hashed_by)}, FRAUD_ID_KEY is "
        f"{rules.keys.fingerprint}: set the key that it was written by, or, with all workers stopped, `features rekey` "
        "derives it anew"
    )


def _named(fingerprint: str) -> str:
    return f"the key {fingerprint}" if fingerprint else "no key, by an older release"
