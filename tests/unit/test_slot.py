"""Who holds a slot: a process is believed to be gone only where that is certain."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streaming.slot import Holder

ME = Holder.here()


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_that_was_killed_here_is_gone(gone: int) -> None:
    assert ME._replace(pid=gone).is_surely_gone(ME)


def test_a_later_process_of_the_same_number_is_another() -> None:
    assert ME._replace(started="1").is_surely_gone(ME)


def test_whoever_runs_is_not_gone() -> None:
    assert not ME.is_surely_gone(ME)
    assert not ME._replace(pid=os.getppid(), started="-").is_surely_gone(ME)


@pytest.mark.parametrize("kernel", ["another-boot/pid:[4026531836]/time:[4026531834]", "-", ""])
def test_in_another_container_of_the_same_host_name_nobody_is_known_to_be_gone(gone: int, kernel: str) -> None:
    assert not ME._replace(pid=gone, kernel=kernel).is_surely_gone(ME)
    assert not ME._replace(kernel=kernel, started="1").is_surely_gone(ME)
    assert not ME._replace(pid=gone, kernel=kernel).is_surely_gone(ME._replace(kernel="-"))


def test_a_lease_names_its_holder() -> None:
    assert Holder.parse(str(ME)) == ME


@pytest.mark.parametrize("lease", ["", "?", "host 12 345", "host x 1 k", "host -1 1 k", "host 0 1 k", "a b c d e f"])
def test_a_lease_of_another_release_or_of_nobody_names_none(lease: str) -> None:
    assert Holder.parse(lease) is None
