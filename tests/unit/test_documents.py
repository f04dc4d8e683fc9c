"""What the documents say can be done can be done: each command, option, make target and link in them is there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.local.jars import PROJECT

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
PROGRAMS = {
    "loadgen": "loadgen.__main__",
    "training": "training.__main__",
    "features": "features.__main__",
    "streaming": "streaming.__main__",
    "dead-letters": "streaming.dead_letters",
}
ELSEWHERE = {"mapping": "mapping_command", "check": "check_command", "demo": "demo_command"}
"""Commands of loadgen whose options are another module's."""
CODE = re.compile(r"^```\w*\n(.*?)^```$|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(rf"^(?:\$ )?(?:[A-Z_]+=\S+ )*({'|'.join(PROGRAMS)}) ([a-z][a-z-]*)(?=\s|$)([^\n#]*)", re.MULTILINE)
MAKE = re.compile(r"^(?:\$ )?make((?: [-\w=./…\"' ]+)*)", re.MULTILINE)
OPTION = re.compile(r"(?<=\s)--[a-z][a-z-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(
    r"(?<![\w./-])(?:tests|docs|features|schemas|streaming|training|loadgen|deploy|benchmarks)/[\w/.-]+\.(?:py|md|toml)"
)


def named(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def code(document: Path) -> Iterator[str]:
    for block, inline in CODE.findall(document.read_text(encoding="utf-8")):
        yield block or inline


@cache
def options(program: str, name: str) -> frozenset[str] | None:
    """Of this command; None where there is none of that name."""
    app = importlib.import_module(PROGRAMS[program]).app
    group: Any = typer.main.get_command(app)
    if program == "loadgen" and name in ELSEWHERE:
        command: Any = typer.main.get_command(importlib.import_module(f"loadgen.{ELSEWHERE[name]}").app)
    else:
        command = group.get_command(None, name)
    if command is None:
        return None
    found = {"--help"}
    for one in (command, *getattr(command, "commands", {}).values()):
        found |= {word for parameter in one.params for word in (*parameter.opts, *parameter.secondary_opts)}
    return frozenset(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_that_is_told_exists_with_its_options(document: Path) -> None:
    wrong = []
    for text in code(document):
        for program, name, rest in COMMAND.findall(text.replace("\\\n", " ")):
            there = options(program, name)
            if there is None:
                wrong.append(f"{program} {name}")
            else:
                wrong += [f"{program} {name} {said}" for said in OPTION.findall(rest) if said not in there]
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_target_of_make_that_is_told_exists_with_its_variables(document: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    wrong = []
    for text in code(document):
        for said in MAKE.findall(text):
            words = [word for word in re.sub(r"\"[^\"]*\"|'[^']*'", "", said).split() if not word.startswith("-")]
            wrong += [word for word in words if "=" not in word and word not in targets and word.isalpha()]
            wrong += [word for word in words if "=" in word and word.partition("=")[0] not in variables]
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    wrong = []
    for link in LINK.findall(re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        file = document.parent / place if place else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("document", [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"], ids=named)
def test_every_file_that_is_told_exists(document: Path) -> None:
    told = {name for text in code(document) for name in FILE.findall(text)}
    assert not [name for name in sorted(told) if not (PROJECT / name).exists()]


@cache
def anchors(document: Path) -> frozenset[str]:
    """As the pages that show it make them of headings, and those that are written out."""
    text = document.read_text(encoding="utf-8")
    found = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[`*…]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return frozenset(found)


def test_what_is_looked_for_is_found() -> None:
    """Or the tests above would pass whatever the documents say."""
    readme = "".join(f"{text}\n" for text in code(PROJECT / "README.md"))
    assert len(COMMAND.findall(readme)) > 20
    assert len(MAKE.findall(readme)) > 15
    assert options("training", "nothing") is None
    assert options("training", "promote") >= {"--on", "--mapping", "--out"}  # type: ignore[operator]
    assert options("training", "archive") >= {"--to", "--keep"}  # type: ignore[operator]
    assert options("loadgen", "demo") >= {"--rate", "--help"}  # type: ignore[operator]
