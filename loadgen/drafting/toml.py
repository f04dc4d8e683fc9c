"""TOML as a person would write it."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    """A basic string: JSON's, but for the one control character that only TOML wants escaped.

    >>> quoted('7" \\n')
    '"7\\\\" \\\\n"'
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def comment(text: str) -> str:
    """One line, without control characters, which TOML has none of in comments."""
    return "# " + "".join(each if each.isprintable() else " " for each in text)
