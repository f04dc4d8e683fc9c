"""The parameters with which a learner does best from date to date, searched for by Optuna.

What `training run` keeps to judge by has no part in it: the search knows what was known when that stretch began, and its own
folds (training/prequential.py) lie before.  A trial that is behind after some of them is given up.

The best of many trials is ahead by chance too: only who is ahead by more than that, by the spread of the dates, is taken.  And
the figures of the best are of the dates that chose it: they are too good.

Studies are kept in SQLite.  One is about one past, learner and settings: the same command goes on where it was stopped, and
tries what it would have tried; another one begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import polars as pl

from features.catalogue import DIGEST
from features.hash_keys import PUBLIC, HashKeys
from schemas.currencies import DEFAULT_RATES, Rates
from schemas.errors import WrongSettings
from training import attributes, prequential, replay
from training.learners.chosen import learner_of
from training.learners.frugal import FEW_FRAUDS
from training.narration import Narrator, Silent
from training.prequential import Described, Fold, Judged
from training.search import Search
from training.settings import LearnerName, Parameters, TrainingSettings
from training.split import known_at, split

if TYPE_CHECKING:
    import optuna

_STARTING_TRIALS = 5
"""Before any is given up, or chosen by what the ones before did."""
_AS_IT_WAS = "as it was"
_OF_FOLDS = "average precision"
_LIMITED = {LearnerName.LIGHTGBM: ("lambda_l2", "feature_fraction")}
"""What the learner itself limits where frauds are few (docs/learners.md): a value found by a search would undo that."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a parameter may be."""

    low: float
    high: float
    log: bool = False
    """Whether twice as much is as far at either end."""
    whole: bool = False


SPACES: Mapping[LearnerName, Mapping[str, Range]] = {
    LearnerName.LIGHTGBM: {
        "num_leaves": Range(low=7, high=255, log=True, whole=True),
        "learning_rate": Range(low=0.02, high=0.3, log=True),
        "min_data_in_leaf": Range(low=5, high=500, log=True, whole=True),
        "lambda_l2": Range(low=0.01, high=100, log=True),
        "feature_fraction": Range(low=0.2, high=1),
        "path_smooth": Range(low=0, high=20),
    },
    LearnerName.XGBOOST: {
        "max_depth": Range(low=3, high=10, whole=True),
        "learning_rate": Range(low=0.02, high=0.3, log=True),
        "min_child_weight": Range(low=0.5, high=100, log=True),
        "reg_lambda": Range(low=0.01, high=100, log=True),
        "subsample": Range(low=0.5, high=1),
        "colsample_bytree": Range(low=0.2, high=1),
    },
    LearnerName.RANDOM_FOREST: {
        "max_depth": Range(low=6, high=24, whole=True),
        "min_samples_leaf": Range(low=1, high=100, log=True, whole=True),
        "max_features": Range(low=0.03, high=0.5, log=True),
    },
    LearnerName.LOGISTIC_REGRESSION: {
        "C": Range(low=1e-4, high=100, log=True),
        "clip": Range(low=1e-4, high=0.02, log=True),
    },
}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a search is."""

    of: int
    """Trials."""
    folds: int
    done: int = 0
    """Trials, given up or not."""
    folds_done: int = 0
    """Of the trial under way."""
    share: float = 0.0
    """Of the budget or of the trials, whichever is nearer to its end: 0 to 1."""
    as_it_was: float | None = None
    """Average precision; None: not known yet."""
    best: float | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to: mean average precisions over the folds."""

    learner: LearnerName
    study: str
    dates: tuple[datetime, ...]
    """Of the folds."""
    trials: int
    given_up: int
    ended: Literal["trials", "budget", "interrupted"]
    chosen_until: datetime
    """What was known until then chose the parameters: rows before it say too much good of them."""
    as_it_was: float
    """With the parameters that it was given."""
    best: float
    """Of the trial that did best; as it was where none did better.  The same dates chose it: it is too good."""
    of_folds: tuple[float, ...]
    """The same, date by date."""
    margin: float
    """So far the best of as many trials would be ahead by chance, by the spread of the dates."""
    parameters: Parameters
    """The best trial's where it is ahead by more than the margin, else those that it was given."""

    @property
    def better(self) -> bool:
        """Whether the best is ahead by more than chance."""
        return self.best - self.as_it_was > self.margin

    def says(self) -> str:
        """What that means."""
        ahead = f"{self.best - self.as_it_was:+.4f} with a margin of {self.margin:.4f}"
        if self.better:
            return f"Taken, {ahead}; these dates chose it, so that the gain will be smaller on others."
        return f"Nothing is changed, {ahead}: the best of {self.trials} trials may be so far ahead by chance."


class _CtrlC:
    """Ctrl-C while a search is under way: it ends a fit, and waits for everything else.

    The first press raises KeyboardInterrupt inside a fit.  What swallows it there (a callback of compiled code) doesn't matter:
    the next step looks.  Outside of fits it is noted only: a study that is written to must not be cut off in between.
    """

    def __init__(self) -> None:
        self._pressed = self._fitting = False

    def __enter__(self) -> _CtrlC:
        self._alone = threading.current_thread() is threading.main_thread()
        if self._alone:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self._alone:
            signal.signal(signal.SIGINT, self._before)

    def look(self) -> None:
        """Raises KeyboardInterrupt where it was pressed."""
        if self._pressed:
            raise KeyboardInterrupt

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """A fit is under way, which may be cut off."""
        self._fitting = True
        try:
            self.look()
            yield
        finally:
            self._fitting = False

    def _press(self, *_: object) -> None:
        first, self._pressed = not self._pressed, True
        if first and self._fitting:
            raise KeyboardInterrupt


class _OutOfTime(Exception):
    """The budget is used up: no error, but the way out of a fit."""


def prepare(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    settings: TrainingSettings,
    folds: int,
    rates: Rates = DEFAULT_RATES,
    keys: HashKeys = PUBLIC,
    narrator: Narrator | None = None,
) -> tuple[Described, tuple[Fold, ...]]:
    """What a search judges by: the past as it was known when the stretch began that `training run` keeps.

    Raises UnusablePast.
    """
    tell = narrator or Silent()
    tell.stage("join", f"joining {labels.height:,} labels to {transactions.height:,} transactions")
    whole = known_at(settings.train_until, transactions, labels)
    everything = np.ones(whole.transactions.height, np.bool_)
    later = split(whole, everything, delay=settings.label_delay, validation=settings.validation)
    past = known_at(later.validation_from, whole.transactions, whole.labels)
    tell.stage("describe", f"describing {past.transactions.height:,} transactions as a worker sees them")
    replayed = replay.vectors(past.transactions, past.labels, rates, keys)
    columns, left_out = attributes.choose(past.transactions, settings.attributes)
    tell.stage("encode", attributes.in_words(columns, left_out))
    history = attributes.History(past, replayed.accepted, columns, settings)
    described = Described(
        past=past,
        accepted=replayed.accepted,
        vectors=replayed.vectors,
        encoded=history.as_they_occurred(),
        history=history,
    )
    return described, prequential.cut(described, settings, folds=folds)


def tune(
    described: Described,
    folds: Sequence[Fold],
    *,
    settings: TrainingSettings,
    search: Search,
    data: str,
    rates: Rates = DEFAULT_RATES,
    keys: HashKeys = PUBLIC,
    on_standing: Callable[[Standing], None] = lambda _standing: None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Search for parameters of `settings.learner`, and write the best to `search.folder`/<learner>.toml.

    `data`: the past's version.  Ends with the trials, the budget or Ctrl-C, and keeps what was found.  Raises WrongSettings;
    KeyboardInterrupt where nothing is found yet.  In the main thread it takes Ctrl-C on itself: a press is heard at the next step
    of a fit, never in the middle of writing a study.
    """
    learner = only_learner(settings)
    name = _name(settings, folds, data, rates, keys)
    with _CtrlC() as ctrl_c, _alone(search.folder, name):
        searching = _Searching(
            ctrl_c=ctrl_c,
            study=_study(search.folder, name),
            learner=learner,
            described=described,
            folds=folds,
            settings=settings,
            search=search,
            on_standing=on_standing,
            clock=clock,
            ends=clock() + search.budget.total_seconds(),
            standing=Standing(of=search.trials, folds=len(folds)),
        )
        found = searching.through()
        write(search.folder / f"{learner}.toml", found)
    return found


def only_learner(settings: TrainingSettings) -> LearnerName:
    """The one that is tuned.  Raises WrongSettings where there are several, or its parameters are wrong."""
    if len(settings.learner) != 1:
        raise WrongSettings(
            f"learner must name one; an ensemble's are tuned one by one, not {', '.join(settings.learner)}"
        )
    learner_of(settings)
    return settings.learner[0]


def write(file: Path, found: Found) -> None:
    """What `training run --learners` reads."""
    lines = [
        f"# The best of {found.trials} trials at {len(found.dates)} dates: average precision {found.best:.4f}, "
        f"{found.as_it_was:.4f} as it was.",
        f"# {found.says()}",
        f"# training run … --learner {found.learner} --learners {file}",
        f"chosen_until = {found.chosen_until.isoformat()}",
        f"[learners.{found.learner}]",
        *(f"{name} = {json.dumps(value)}" for name, value in found.parameters.items()),
    ]
    draft = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@dataclass(kw_only=True)
class _Searching:
    """One search under way."""

    ctrl_c: _CtrlC
    study: optuna.Study
    learner: LearnerName
    described: Described
    folds: Sequence[Fold]
    settings: TrainingSettings
    search: Search
    on_standing: Callable[[Standing], None]
    clock: Callable[[], float]
    ends: float
    """By the clock."""
    standing: Standing
    """As of the trial under way."""

    def through(self) -> Found:
        """Trial after trial, until there are enough, the time is over or somebody wants no more."""
        ended: Literal["trials", "budget", "interrupted"] = "trials"
        try:
            if _AS_IT_WAS not in self.study.user_attrs:
                self.study.set_user_attr(_AS_IT_WAS, [each.average_precision for each in self._judged({})])
            while len(self._finished()) < self.search.trials:
                self.ctrl_c.look()
                self._try()
            self._look()
        except _OutOfTime:
            ended = "budget"
        except KeyboardInterrupt:
            ended = "interrupted"
        if _AS_IT_WAS not in self.study.user_attrs:
            if ended == "interrupted":
                raise KeyboardInterrupt
            raise WrongSettings(
                f"the budget of {self.search.budget} ended before {self.learner} was judged once; a longer --budget would do"
            )
        return self._found(ended)

    def _try(self) -> None:
        import optuna  # noqa: PLC0415 - takes a second
        from optuna.trial import TrialState  # noqa: PLC0415 - the same

        # Seeded anew for each: a search that goes on tries what it would have tried.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.settings.seed + len(self._finished()), n_startup_trials=_STARTING_TRIALS
        )
        trial = self.study.ask()
        judged: list[float] = []
        try:
            for each in self._judged(_suggested(trial, space_of(self.learner, self.folds))):
                judged.append(each.average_precision)
                trial.report(float(np.mean(judged)), len(judged))
                if len(judged) < len(self.folds) and trial.should_prune():
                    break
        except BaseException:  # Ctrl-C too: else the study would wait for this trial for ever
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        if len(judged) < len(self.folds):
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        trial.set_user_attr(_OF_FOLDS, judged)
        self.study.tell(trial, float(np.mean(judged)))

    def _judged(self, parameters: Parameters) -> Iterator[Judged]:
        """Raises _OutOfTime."""
        own = self.settings.learners.get(self.learner, {}) | parameters
        settings = msgspec.structs.replace(self.settings, learners=self.settings.learners | {self.learner: own})
        self._look()
        self._watch(0, 1)
        for fold in self.folds:
            with self.ctrl_c.fitting():
                [each] = prequential.judge(self.described, [fold], learner_of(settings), settings, self._watch)
            self.standing = replace(self.standing, folds_done=self.standing.folds_done + 1)
            yield each

    def _look(self) -> None:
        """Between two trials."""
        best, before = self._best(), self.study.user_attrs.get(_AS_IT_WAS)
        done = len(self._finished())
        self.standing = replace(
            self.standing,
            done=done,
            folds_done=0,
            share=done / self.standing.of,
            as_it_was=None if before is None else float(np.mean(before)),
            best=None if best is None else best.value,
        )
        self.on_standing(self.standing)

    def _watch(self, _done: int, _of: int) -> None:
        """Told at every step of a fit, which may last for minutes."""
        self.ctrl_c.look()
        left = self.ends - self.clock()
        used = 1 - left / self.search.budget.total_seconds()
        self.on_standing(replace(self.standing, share=min(max(used, self.standing.done / self.standing.of), 1.0)))
        if left <= 0:
            raise _OutOfTime

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        from optuna.trial import TrialState  # noqa: PLC0415 - takes a second

        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))

    def _best(self) -> optuna.trial.FrozenTrial | None:
        from optuna.trial import TrialState  # noqa: PLC0415 - takes a second

        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return max(done, key=lambda trial: trial.value or 0.0, default=None)

    def _complete(self) -> list[Sequence[float]]:
        """Of the trials that were judged at all dates: date by date."""
        from optuna.trial import TrialState  # noqa: PLC0415 - takes a second

        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial.user_attrs[_OF_FOLDS] for trial in done]

    def _found(self, ended: Literal["trials", "budget", "interrupted"]) -> Found:
        from optuna.trial import TrialState  # noqa: PLC0415 - takes a second

        before, finished, best = self.study.user_attrs[_AS_IT_WAS], self._finished(), self._best()
        as_it_was = float(np.mean(before))
        ahead = best is not None and best.value is not None and best.value > as_it_was
        of_folds = best.user_attrs[_OF_FOLDS] if best is not None and ahead else before
        given = self.settings.learners.get(self.learner, {})
        known, searched = self.described.past.until, self.settings.learners_until
        found = Found(
            learner=self.learner,
            study=self.study.study_name,
            dates=tuple(fold.at for fold in self.folds),
            trials=len(finished),
            given_up=sum(trial.state == TrialState.PRUNED for trial in finished),
            ended=ended,
            chosen_until=known if searched is None else max(known, searched),
            as_it_was=as_it_was,
            best=float(np.mean(of_folds)),
            of_folds=tuple(of_folds),
            margin=by_chance(before, self._complete(), trials=len(finished)),
            parameters=given,
        )
        return replace(found, parameters=given | best.params) if best is not None and found.better else found


def by_chance(before: Sequence[float], complete: Sequence[Sequence[float]], *, trials: int) -> float:
    """How far the best of so many `trials` would be ahead of `before` by chance, if all were as good.

    `before` and each of the `complete` ones: one figure a date.  What is left of these without the mean of each setting and of
    each date is noise; the largest of n means over k dates lies (2 ln(n + 1) / k) ** 0.5 of it above the others, or nearly.

    >>> round(by_chance([0.5, 0.6, 0.7], [[0.51, 0.6, 0.75], [0.5, 0.64, 0.71]], trials=2), 4)
    0.026
    """
    if not complete:
        return 0.0
    figures = np.array([before, *complete])
    left = figures - figures.mean(axis=0) - figures.mean(axis=1, keepdims=True) + figures.mean()
    of_a_difference = 2 * float((left**2).sum()) / (len(complete) * (len(before) - 1))
    return math.sqrt(of_a_difference * 2 * math.log(trials + 1) / len(before))


def space_of(learner: LearnerName, folds: Sequence[Fold]) -> Mapping[str, Range]:
    """What is searched.  Where frauds are few, what the learner limits for that is left to it."""
    few = max(int(fold.known[fold.fit].sum()) for fold in folds) <= FEW_FRAUDS
    limited = _LIMITED.get(learner, ()) if few else ()
    return {name: of for name, of in SPACES[learner].items() if name not in limited}


def _suggested(trial: optuna.Trial, space: Mapping[str, Range]) -> dict[str, Any]:
    return {
        name: trial.suggest_int(name, int(of.low), int(of.high), log=of.log)
        if of.whole
        else trial.suggest_float(name, of.low, of.high, log=of.log)
        for name, of in space.items()
    }


def _name(settings: TrainingSettings, folds: Sequence[Fold], data: str, rates: Rates, keys: HashKeys) -> str:
    """Of a study: another past, date, setting or catalogue is another study."""
    given = {name: value for name, value in msgspec.structs.asdict(settings).items() if name not in ("out", "threads")}
    dates = [(fold.at, fold.until) for fold in folds]
    by = [rates.currency, rates.factors, keys.fingerprint]
    about = msgspec.json.encode([data, DIGEST, given, dates, *by], order="deterministic")
    return f"{settings.learner[0]}-{hashlib.sha256(about).hexdigest()[:16]}"


def _study(folder: Path, name: str) -> optuna.Study:
    """The study of this name, made where there is none.  What a killed search left half-way is closed."""
    import optuna  # noqa: PLC0415 - takes a second
    from optuna.trial import TrialState  # noqa: PLC0415 - the same

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'studies.db'}",
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTING_TRIALS),
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Raises WrongSettings where another command is at the same study."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as mutex:
        try:
            fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WrongSettings(
                f"another `training tune` is at study {name} in {folder}: wait for it, or stop it"
            ) from error
        yield
