"""Whatever is wrong with a bundle, it is refused by name, remembered, and asked anew when it changes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.errors import UnusableModel
from streaming import explaining, loading
from streaming.fetching import MOST_AT_ONCE, BeingFetched, Fetcher, require_name
from streaming.loading import FIRST_WAIT, Loader, try_apart
from streaming.settings import WorkerSettings

NAME = "0123456789abcdef"


class Bundles:
    """One bundle's folder, and who loads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / NAME
        self.folder.mkdir()
        self.write("as it is")
        self.now = 1_000.0
        self.tried = 0
        self.apart: list[Path] = []
        self.ends = False
        self.fails: BaseException | None = None
        self.fails_apart: str | None = None
        self.loader = self.of_a_new_process()

    def of_a_new_process(self) -> Loader[str]:
        self.loader = Loader(
            self._load, lambda _: self.folder, self._try_apart, self.folder.parent / ".loading-0", lambda: self.now
        )
        return self.loader

    def write(self, content: str) -> None:
        (self.folder / "model.onnx").write_text(content)

    def _load(self, _folder: Path) -> str:
        if self.ends:
            os.kill(os.getpid(), signal.SIGKILL)
        self.tried += 1
        if self.fails is not None:
            raise self.fails
        return "ready"

    def _try_apart(self, folder: Path) -> str | None:
        self.apart.append(folder)
        return self.fails_apart

    def refusal(self) -> str:
        with pytest.raises(UnusableModel) as refused:
            self.loader.ready(NAME)
        return str(refused.value)


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path)


@pytest.mark.parametrize(
    "error",
    [AttributeError("'Transaction' object has no attribute 'channel_group'"), MemoryError(), OSError(36, "too long"),
     IndexError(), RecursionError("x"), ZeroDivisionError(), UnusableModel("it is another catalogue's")],
)  # fmt: skip
def test_whatever_loading_or_warming_up_raises_is_a_refusal_by_name(bundles: Bundles, error: Exception) -> None:
    bundles.fails = error
    why = bundles.refusal()

    assert NAME in why or why == "it is another catalogue's"
    assert type(error).__name__ in why or isinstance(error, UnusableModel)


def test_a_refused_bundle_is_not_met_again_and_again(bundles: Bundles) -> None:
    bundles.fails = ValueError("no")
    first = bundles.refusal()
    assert {bundles.refusal() for _ in range(50)} == {first}
    assert bundles.tried == 1

    tried = []
    for _ in range(4_000):
        bundles.now += 1
        bundles.refusal()
        tried.append(bundles.tried)
    assert bundles.tried == pytest.approx(12, abs=2), "after 5 s, 10, 20 and so on, and every ten minutes at last"
    assert tried[int(FIRST_WAIT)] == 2


def test_it_is_asked_anew_when_its_files_have_changed(bundles: Bundles) -> None:
    bundles.fails = ValueError("no")
    bundles.refusal()
    bundles.fails = None
    bundles.write("mended, and longer")

    assert bundles.loader.ready(NAME) == "ready"


def test_a_bundle_that_ended_the_process_is_tried_apart_before_it_is_met_again(bundles: Bundles) -> None:
    """A process that ends at once tidies nothing up."""
    child = os.fork()
    if child == 0:
        bundles.ends = True
        with suppress(Exception):
            bundles.loader.ready(NAME)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    bundles.fails_apart = "it ended the process that tried it (SIGSEGV)"
    assert bundles.refusal() == f"bundle {NAME} can't be loaded: it ended the process that tried it (SIGSEGV)"
    bundles.refusal()
    assert len(bundles.apart) == 1, "and is remembered"
    bundles.of_a_new_process()
    bundles.refusal()
    assert bundles.tried == 0, "also by the one after it"

    bundles.write("mended, and longer")
    bundles.fails_apart = None
    assert bundles.loader.ready(NAME) == "ready"
    assert bundles.of_a_new_process().ready(NAME) == "ready"
    assert len(bundles.apart) == 2


@pytest.mark.parametrize(
    "name", ["x" * 300, "../../etc", "current", "", "0123456789ABCDEF", "a/b", "\0", "0123456789abcde\n"]
)
def test_a_name_that_is_no_bundles_touches_no_file_and_starts_no_process(tmp_path: Path, name: str) -> None:
    """Aliases, tags and what lies on `models` are whatever somebody wrote there."""
    with pytest.raises(UnusableModel, match="no bundle's name"):
        require_name(name)
    with pytest.raises(UnusableModel, match="no bundle's name"):
        Fetcher(WorkerSettings(), tmp_path / "nowhere").fetch(name)


def test_downloads_are_few_at_a_time_however_many_names_there_are(tmp_path: Path) -> None:
    fetcher = Fetcher(WorkerSettings(mlflow_uri=f"sqlite:///{tmp_path}/none.db"), tmp_path)
    for n in range(20):
        with pytest.raises(BeingFetched):
            fetcher.fetch(f"{n:016x}")
    assert len(fetcher._downloads) == MOST_AT_ONCE
    fetcher.close()


def test_what_ends_the_process_that_tries_it_is_named_by_its_signal(tmp_path: Path) -> None:
    """A folder that is none is refused by that process in words; see test_bundle for what trees do."""
    said = try_apart(tmp_path / "none")
    assert said is not None
    assert "there is no bundle at" in said


def test_an_explainer_that_tries_a_bundle_apart_is_not_called_stuck_before_the_trial_is_over() -> None:
    """Whoever restarts what is unhealthy would end each trial, and the next process would begin it again."""
    assert explaining.STUCK_AFTER > loading.TRIED_WITHIN
