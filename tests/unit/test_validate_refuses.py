"""Whatever a training would refuse, `training validate` refuses, in the same words, and before anything is described."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.currencies import DEFAULT_RATES
from tests.unit.pasts import START, a_past, labels_of
from training import __main__ as command
from training import job
from training.errors import UnusablePast
from training.settings import TrainingSettings
from training.split import known_at, split
from training.validating import validate

Past = tuple[pl.DataFrame, pl.DataFrame]
PAST = a_past()


def frauds_between(first: int, last: int) -> Callable[[Past], Past]:
    """Only frauds of these days are known."""
    since, until = START + timedelta(days=first), START + timedelta(days=last)
    return lambda past: (past[0], past[1].filter(pl.col("occurred_at").is_between(since, until)))


def settings_of(**said: Any) -> TrainingSettings:
    return TrainingSettings(**said)


def as_it_is(past: Past) -> Past:
    return past


def in_part(currency: str) -> Callable[[Past], Past]:
    some = pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit(currency)).otherwise(pl.lit("EUR"))
    return lambda past: (past[0].with_columns(some.alias("currency")), past[1])


REFUSALS: list[tuple[Callable[[Past], Past], dict[str, Any], str]] = [
    (in_part("MGA"), {}, r"currency: 960 of 4,800 rows .*no rate for 'MGA'.*FRAUD_RATES__MGA says how many MGA are one EUR"),
    (lambda past: (past[0].clear(), past[1].clear()), {}, "the table of transactions is empty"),
    (lambda past: (past[0], past[1].clear()), {}, "one class only: of 4,800 transactions none is a fraud"),
    (lambda past: (past[0], labels_of(past[0], timedelta(days=3))), {}, "one class only: all 4,800 transactions are frauds"),
    (as_it_is, {"train_until": datetime(2026, 2, 1, tzinfo=UTC)}, "all 4800 transactions are later than 2026-02-01"),
    (as_it_is, {"train_until": START + timedelta(days=1)}, "none was known to be a fraud at 2026-03-02"),
    (as_it_is, {"label_delay": timedelta(days=22)}, "nothing is mature enough: .* or a shorter --label-delay"),
    (as_it_is, {"validation": timedelta(days=60)}, "0 mature rows to fit, .*a shorter --validation"),
    (frauds_between(20, 40), {}, r"mature rows to fit, 0 of them frauds: more history.* occurred before 2026-03-20"),
    (frauds_between(0, 15), {}, r"rows to validate, 0 of them frauds: a longer.* occurred from 2026-03-.* to 2026-04-"),
    (frauds_between(15, 40), {"folds": 5}, "fold 1, of .* has .*fewer --folds, more history, or another --validation"),
    (as_it_is, {"attributes": ("attributes.nothing",)}, "no attribute 'attributes.nothing' in this past"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said", "words"), REFUSALS)
def test_what_a_training_refuses_is_refused_by_validating(
    change: Callable[[Past], Past], said: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def described(*_: object) -> None:
        raise AssertionError("it was described")

    monkeypatch.setattr(job, "_described", described)
    past, settings = change(PAST), settings_of(out=tmp_path, trees=5, **said)

    with pytest.raises(UnusablePast, match=words) as by_training:
        job.train(*past, settings=settings)
    with pytest.raises(UnusablePast) as by_validating:
        validate(*past, attributes=settings.attributes, settings=settings, rates=DEFAULT_RATES).require_usable()

    assert str(by_validating.value) == str(by_training.value)
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_dates_and_currencies_as_a_training_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*arguments: object) -> int | str | None:
        monkeypatch.setattr("sys.argv", ["training", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code

    for number, (change, said, words) in enumerate(
        ((in_part("MGA"), (), "MGA"), (as_it_is, ("--label-delay", "22d"), "mature"))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        transactions, labels = change(PAST)
        transactions.write_parquet(folder / "transactions.parquet")
        labels.write_parquet(folder / "labels.parquet")
        assert ends("validate", folder, *said) == 1
        assert words in capsys.readouterr().out
        assert ends("run", folder, *said, "--out", tmp_path / "bundles", "--no-mlflow") == 2
        assert words in capsys.readouterr().err
    monkeypatch.setenv("FRAUD_RATES__MGA", "4900")
    assert ends("validate", tmp_path / "0") == 0


def test_few_frauds_to_fit_are_said(tmp_path: Path) -> None:
    transactions, labels = PAST
    early = labels.filter(pl.col("occurred_at") < START + timedelta(days=10)).head(1)
    late = labels.filter(pl.col("occurred_at") > START + timedelta(days=25))
    found = validate(
        transactions, pl.concat([early, late]), settings=TrainingSettings(out=tmp_path), rates=DEFAULT_RATES
    )

    assert not found.refused
    assert any("only 1 of the" in one.says and "to fit is a fraud" in one.says for one in found.odd)


def test_a_label_that_is_known_long_after_everything_leaves_rows_to_judge_by() -> None:
    transactions, labels = PAST
    late = labels.with_columns(
        pl.when(pl.int_range(pl.len()) == 5)
        .then(pl.col("known_at") + timedelta(days=365))
        .otherwise("known_at")
        .alias("known_at")
    ).sort("known_at")
    past = known_at(None, transactions, late)
    accepted = pl.select(pl.repeat(value=True, n=transactions.height)).to_series().to_numpy()
    cut = split(past, accepted, delay=timedelta(days=7))

    assert cut.test_until == transactions["occurred_at"].max()
    assert min(cut.fit.sum(), cut.validation.sum(), cut.test.sum()) > 100


def test_few_instants_are_odd_and_said() -> None:
    transactions, labels = (frame.with_columns(pl.col("occurred_at").dt.truncate("1d")) for frame in PAST)
    few = transactions.with_columns(
        (START + pl.duration(hours=pl.int_range(pl.len()) * 24 // pl.len()))
        .alias("occurred_at")
        .dt.cast_time_unit("us")
    )
    found = validate(few, labels.with_columns(pl.lit(START).dt.cast_time_unit("us").alias("occurred_at")))

    assert any(one.about == "occurred_at" and "4,800 rows share 24 instants" in one.says for one in found.odd)


@pytest.mark.parametrize("micros", [0, -62_135_596_800_000_000, 1_704_069_089_000 * 10**6, 2**62])
def test_no_moment_is_too_far_to_be_told(micros: int) -> None:
    transactions, labels = PAST
    far = transactions.with_columns(
        pl.when(pl.int_range(pl.len()) == 7)
        .then(pl.lit(micros).cast(pl.Datetime("us", "UTC")))
        .otherwise("occurred_at")
        .alias("occurred_at")
    )
    found = validate(far, labels, settings=TrainingSettings(), rates=DEFAULT_RATES)

    assert [one.about for one in found.refused] == ["occurred_at"]
    assert "are they seconds, or milliseconds?" in found.refused[0].says
    known = labels.with_columns(pl.lit(micros).cast(pl.Datetime("us", "UTC")).alias("known_at"))
    assert "known_at" in [one.about for one in validate(transactions, known).refused]
