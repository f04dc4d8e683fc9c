"""The learner that the settings ask for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from schemas.errors import WrongSettings
from training.learners.ensemble import Ensemble
from training.learners.frugal import Frugal
from training.learners.imbalance import Balanced
from training.learners.learner import Learner
from training.learners.lightgbm import Boost, LightGBM, LightGBMParameters, boosted
from training.settings import LearnerName, Parameters, TrainingSettings

Struct = TypeVar("Struct", bound=msgspec.Struct)


def learner_of(settings: TrainingSettings) -> Learner:
    """One, or the ensemble of several; on rows as `settings.imbalance` wants them.

    Raises WrongSettings where a parameter of any of them, also of one that isn't asked for, is unknown or wrong.
    """
    if settings.dask and settings.learner != (LearnerName.LIGHTGBM,):
        raise WrongSettings(
            f"dask: a cluster fits lightgbm, and not {', '.join(settings.learner)}: leave one or the other"
        )
    made = {
        name: _made(name, settings.learners.get(name, {}), settings.dask)
        for name in {*settings.learner, *settings.learners}
    }
    several: list[Learner] = [made[name] for name in settings.learner]
    return Balanced(Frugal(several[0] if len(several) == 1 else Ensemble(several)))


def _made(name: str, parameters: Parameters, dask: str) -> Learner:
    if name == LearnerName.LIGHTGBM:
        return LightGBM(_parameters(name, parameters, LightGBMParameters), _boost(dask))
    if name == LearnerName.XGBOOST:
        from training.learners.xgboost import XGBoost, XGBoostParameters  # noqa: PLC0415 - half a second to import

        return XGBoost(_parameters(name, parameters, XGBoostParameters))
    if name == LearnerName.RANDOM_FOREST:
        from training.learners.random_forest import RandomForest, RandomForestParameters  # noqa: PLC0415 - the same

        return RandomForest(_parameters(name, parameters, RandomForestParameters))
    from training.learners.logistic_regression import LogisticRegression, LogisticRegressionParameters  # noqa: PLC0415

    return LogisticRegression(_parameters(name, parameters, LogisticRegressionParameters))


def _boost(dask: str) -> Boost:
    if not dask:
        return boosted
    from training.learners.lightgbm_on_dask import OnDask  # noqa: PLC0415 - only who asks for it needs it

    return OnDask(dask)


def _parameters(name: str, parameters: Parameters, kind: type[Struct]) -> Struct:
    try:
        return msgspec.convert(parameters, kind)
    except msgspec.ValidationError as error:
        raise WrongSettings(f"[learners.{name}] {error}; it takes {', '.join(kind.__struct_fields__)}") from error


def parameters(file: Path | None, said: Iterable[str]) -> dict[str, Parameters]:
    """By learner: the tables `[learners.<name>]` of a TOML file, and over them what was `said` as name.parameter=value.

    Raises WrongSettings.
    """
    found: dict[str, Parameters] = {} if file is None else _read(file)
    for one in said:
        where, equals, value = one.partition("=")
        name, dot, parameter = where.strip().partition(".")
        if not (equals and dot and parameter):
            raise WrongSettings(f"{one!r} sets nothing: write it as xgboost.max_depth=3")
        found[name] = found.get(name, {}) | {parameter: _value(value.strip())}
    return found


def chosen_until(file: Path | None) -> datetime | None:
    """The `chosen_until` of such a file: what was known until then chose its parameters.  None: it doesn't say.

    Raises WrongSettings.
    """
    if file is None:
        return None
    said = _content(file).get("chosen_until")
    if said is not None and not (isinstance(said, datetime) and said.tzinfo is not None):
        raise WrongSettings(
            f"{file}: chosen_until is {said!r}; a time with its zone, as 2026-07-01T00:00:00Z, would do"
        )
    return said


def _content(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongSettings(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongSettings(f"{file} is no TOML: {error}") from error


def _read(file: Path) -> dict[str, Parameters]:
    content = _content(file)
    tables = content.get("learners")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise WrongSettings(f"{file} has no tables [learners.<name>]; it is to hold one for each learner to be set")
    return tables


def _value(text: str) -> Any:
    """As TOML has it; what is none is text.

    >>> _value("3"), _value("true"), _value("exact"), _value('["hour"]')
    (3, True, 'exact', ['hour'])
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
