"""Planted faults are faults: code that can be read, and that says something else than what stood there."""

from __future__ import annotations

import ast

import pytest

from benchmarks.mutants import TESTS, faults
from deploy.local.jars import PROJECT

CODE = b"""
\"\"\"A text of 3 lines < 4.\"\"\"
from typing import Annotated
LEAST: Annotated[int, 7] = 200

def \xc3\xa4(a: int = 1, b: bool = True) -> float | None:
    \"\"\"1 < 2.\"\"\"
    if not b and a <= LEAST or a in (5,):
        return a * -2.5 + a
    print(f"{a + 1:,.3f}")
    return None
"""
PLANTED = {
    ("LEAST: 200", "201"), ("a: 1", "2"), ("b: True", "False"), ("not b", "b"), ("a <= LEAST", "(a < LEAST)"),
    ("a <= LEAST", "(a > LEAST)"), ("a in (5,)", "(a not in (5,))"), ("5", "6"), ("2.5", "5.0"), ("-2.5", "2.5"),
    ("a * -2.5", "(a / -2.5)"), ("a * -2.5 + a", "(a * -2.5 - a)"), ("return a * -2.5 + a", "return None"),
    ("not b and a <= LEAST", "(not b or a <= LEAST)"), ("not b and a <= LEAST", "(a <= LEAST)"),
    ("not b and a <= LEAST", "(not b)"),
    ("not b and a <= LEAST or a in (5,)", "((not b and a <= LEAST) and a in (5,))"),
    ("not b and a <= LEAST or a in (5,)", "(not b and a <= LEAST)"),
    ("not b and a <= LEAST or a in (5,)", "(a in (5,))"),
}  # fmt: skip


def test_what_is_calculated_is_made_another_and_neither_types_nor_texts() -> None:
    named = {"200": "LEAST: 200", "1": "a: 1", "True": "b: True"}
    assert {(named.get(fault.before, fault.before), fault.after) for fault in faults(CODE)} == PLANTED


@pytest.mark.parametrize("file", TESTS)
def test_every_fault_is_code_and_another_code_than_before(file: str) -> None:
    code = (PROJECT / file).read_bytes()
    as_it_is = ast.dump(ast.parse(code))

    found = faults(code)

    assert len(found) > 50
    assert len({(fault.begin, fault.end, fault.after) for fault in found}) == len(found)
    for fault in found[::20]:  # all of them would take a minute
        assert ast.dump(ast.parse(fault.planted(code))) != as_it_is, fault
        assert code[: fault.begin].count(b"\n") + 1 == fault.line


@pytest.mark.parametrize("file", TESTS)
def test_the_tests_that_are_to_notice_are_there(file: str) -> None:
    assert not [test for test in TESTS[file] if not (PROJECT / test).is_file()]
