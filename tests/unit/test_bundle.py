"""A worker serves a bundle that is what it says, and says of any other what is wrong with it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from features.attributes import Attributes, Encoder, NumberColumn, written
from schemas.bundle import (
    ATTRIBUTES,
    CURRENT,
    DIGESTED,
    EVALUATION,
    FORMAT,
    GOLDEN,
    MANIFEST,
    MODEL,
    OUTPUT,
    TREES,
    Calibration,
    Manifest,
    Thresholds,
    digest_of,
    make_current,
)  # fmt: skip
from schemas.errors import UnusableModel
from streaming.bundle import LoadedBundle, resolve
from streaming.reasons import Explainer
from tests.builders import a_transaction
from tests.unit.boosters import a_booster, hard_vectors, some_vectors
from training.bundle import write
from training.export import graph_of
from training.learners.lightgbm import export, trees_of

FEATURES = ("amount", "count", "mean", "since_last", "rate", "night")
CATALOGUE = "c0ffee"


def a_bundle(out: Path, *, seed: int = 0) -> Path:
    booster = a_booster(some_vectors(seed), seed=seed)
    exported = export(booster)
    golden = hard_vectors(booster, trees_of(booster), seed, rows=256)
    margins = np.asarray(booster.predict(golden, raw_score=True), np.float64)
    manifest = Manifest(
        format=FORMAT, catalogue=CATALOGUE, features=FEATURES, thresholds=Thresholds(review=0.5, decline=0.9),
        calibration=Calibration(), learner={"name": "lightgbm"}, trained={"rows": 600}, metrics={}, base=exported.base,
    )  # fmt: skip
    return write(
        out, exported=exported, manifest=manifest, golden_vectors=golden, golden_margins=margins, evaluation="<html>"
    )


NIGHT = Attributes((NumberColumn(column="attributes.night"),))


def a_bundle_with_an_attribute(out: Path, **fields: object) -> Path:
    """The last of its features is one."""
    plain = a_bundle(out / "plain")
    encoder = Encoder(NIGHT)
    features = FEATURES[:-1] + encoder.features
    told = {"features": features, "attributes": msgspec.to_builtins(encoder.columns)} | fields
    named = changed_manifest(plain, **told)
    golden = pl.read_parquet(named / GOLDEN).rename({"night": "attributes.night"})
    golden.write_parquet(out / "golden")
    return changed(changed(named, GOLDEN, (out / "golden").read_bytes()), ATTRIBUTES, written(NIGHT))


def load(folder: Path) -> LoadedBundle:
    return LoadedBundle.load(folder, features=FEATURES, catalogue=CATALOGUE)


def changed(folder: Path, name: str, content: bytes) -> Path:
    """A copy of the bundle with another file in it, under its own right digest."""
    draft = folder.parent / "draft"
    shutil.copytree(folder, draft)
    (draft / name).write_bytes(content)
    return draft.rename(folder.parent / digest_of(draft))


def changed_manifest(folder: Path, **fields: object) -> Path:
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes()) | fields
    return changed(folder, MANIFEST, msgspec.json.encode(manifest))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return a_bundle(tmp_path / "bundles")


def test_a_bundle_answers_what_the_booster_answered(folder: Path) -> None:
    booster = a_booster(some_vectors(0), seed=0)
    vectors = hard_vectors(booster, trees_of(booster), 99)
    bundle = load(folder)

    assert bundle.name == folder.name == digest_of(folder)
    assert bundle.margins(vectors).tobytes() == np.asarray(booster.predict(vectors, raw_score=True)).tobytes()
    assert bundle.margins(vectors[:1]).shape == (1,)
    assert bundle.margins(vectors[:0]).shape == (0,)


def test_vectors_in_another_memory_order_are_answered_alike(folder: Path) -> None:
    bundle, vectors = load(folder), some_vectors(3)

    assert (bundle.margins(np.asfortranarray(vectors)) == bundle.margins(vectors)).all()


def test_a_bundle_is_loaded_in_one_thread_and_asked_in_others(folder: Path) -> None:
    vectors = some_vectors(3)
    with ThreadPoolExecutor(4) as pool:
        bundle = pool.submit(load, folder).result()
        answers = list(pool.map(bundle.margins, [vectors] * 8))

    assert all((answer == answers[0]).all() for answer in answers)


def test_current_names_the_bundle_in_use_and_moves_at_once(folder: Path) -> None:
    link = make_current(folder)
    assert resolve(link) == folder.resolve()
    assert load(link).name == folder.name

    other = a_bundle(folder.parent, seed=1)
    assert make_current(other) == link
    assert load(folder.parent / CURRENT).name == other.name != folder.name
    assert [path for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_the_same_bundle_written_again_is_the_same_folder(folder: Path) -> None:
    before = {name: (folder / name).stat().st_ino for name in DIGESTED}

    assert a_bundle(folder.parent) == folder
    assert {name: (folder / name).stat().st_ino for name in DIGESTED} == before
    assert list(folder.parent.iterdir()) == [folder]


def test_the_evaluation_is_no_part_of_the_digest(folder: Path) -> None:
    (folder / EVALUATION).write_text("another")

    assert load(folder).name == folder.name


def test_what_is_not_there_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UnusableModel, match=r"there is no bundle at .*training run"):
        load(tmp_path / "nowhere")

    make_current(folder)
    with pytest.raises(UnusableModel, match="folder of bundles"):
        load(folder.parent)

    for name in DIGESTED:
        broken = tmp_path / name / folder.name
        shutil.copytree(folder, broken)
        (broken / name).unlink()
        with pytest.raises(UnusableModel, match=f"has no {name}"):
            load(broken)

    shutil.rmtree(folder)
    with pytest.raises(UnusableModel, match=f"names {folder.name}, which is not there"):
        load(folder.parent / CURRENT)


@pytest.mark.parametrize("name", DIGESTED)
def test_a_truncated_file_is_not_what_the_name_says(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])

    with pytest.raises(UnusableModel, match="truncated or changed"):
        load(folder)


def test_a_bundle_of_another_format_is_refused(folder: Path) -> None:
    with pytest.raises(UnusableModel, match=f"format 99, this version reads {FORMAT}"):
        load(changed_manifest(folder, format=99))


def test_a_bundle_for_another_catalogue_is_refused_with_what_differs(folder: Path) -> None:
    def load_for(features: tuple[str, ...], catalogue: str = CATALOGUE) -> None:
        LoadedBundle.load(folder, features=features, catalogue=catalogue)

    with pytest.raises(UnusableModel, match=r"6 features, here are 7: it lacks device_age; train one"):
        load_for((*FEATURES, "device_age"))
    with pytest.raises(UnusableModel, match="it lacks day; it wants night"):
        load_for((*FEATURES[:-1], "day"))
    with pytest.raises(UnusableModel, match="the same in another order"):
        load_for(FEATURES[::-1])
    with pytest.raises(UnusableModel, match=r"catalogue c0ffee, here is decaf: .* what they mean is not"):
        load_for(FEATURES, "decaf")


def test_a_bundle_wants_its_attributes_behind_the_catalogues_features(tmp_path: Path) -> None:
    bundle = LoadedBundle.load(a_bundle_with_an_attribute(tmp_path), features=FEATURES[:-1], catalogue=CATALOGUE)
    vectors = bundle.encoder.extend(
        np.ones((2, 5), np.float32), [a_transaction(), a_transaction(attributes={"night": 1})]
    )

    assert np.isnan(vectors[0, 5])
    assert bundle.margins(vectors)[1] == bundle.margins(np.ones((1, 6), np.float32))[0]


@pytest.mark.parametrize("other", [{"attributes": []}, {"features": FEATURES}])
def test_a_manifest_that_names_other_attributes_than_are_encoded_is_refused(tmp_path: Path, other: Any) -> None:
    folder = a_bundle_with_an_attribute(tmp_path, **other)
    with pytest.raises(UnusableModel, match=f"{MANIFEST} and {ATTRIBUTES} name other columns"):
        LoadedBundle.load(folder, features=FEATURES[:-1], catalogue=CATALOGUE)


def test_with_attributes_too_the_catalogue_is_held_to(tmp_path: Path) -> None:
    folder = a_bundle_with_an_attribute(tmp_path)
    with pytest.raises(UnusableModel, match=r"5 features, here are 6: it lacks night; train one"):
        load(folder)
    with pytest.raises(UnusableModel, match="catalogue c0ffee, here is decaf"):
        LoadedBundle.load(folder, features=FEATURES[:-1], catalogue="decaf")


def test_golden_rows_that_differ_in_the_last_bit_are_refused(folder: Path) -> None:
    golden = pl.read_parquet(folder / GOLDEN)
    margins = golden[OUTPUT].to_numpy().copy()
    margins[200] = np.nextafter(margins[200], np.inf)
    path = folder.parent / "golden"
    golden.with_columns(pl.Series(OUTPUT, margins)).write_parquet(path)

    with pytest.raises(UnusableModel, match=r"1 of 256 golden rows, asked 256 at a time, .*row 200: "):
        load(changed(folder, GOLDEN, path.read_bytes()))


@pytest.mark.parametrize("rows", [1, 7])
def test_a_graph_that_answers_otherwise_for_few_rows_than_for_many_is_refused(folder: Path, rows: int) -> None:
    """ONNX Runtime takes another path for one row than for many, and a worker's batches are of any size."""
    bundle = load(folder)

    class Odd:
        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
            (margins,) = bundle.session.run(outputs, inputs)
            return [np.nextafter(margins, np.inf) if len(margins) == rows else margins]

    with pytest.raises(UnusableModel, match=f"golden rows, asked {rows} at a time, have other margins"):
        replace(bundle, session=Odd()).require_golden_margins()


def test_trees_that_compiled_code_would_walk_out_of_are_refused_before_it_does(folder: Path) -> None:
    trees = pl.read_parquet(folder / TREES)
    path = folder.parent / "trees"
    outside = pl.when(pl.col("feature") >= 0).then(1_000_000_000).otherwise(pl.col("left")).cast(pl.Int32)
    trees.with_columns(outside.alias("left")).write_parquet(path)

    with pytest.raises(UnusableModel, match="no row behind its parent"):
        Explainer(load(changed(folder, TREES, path.read_bytes())), currency="EUR")


def test_margins_that_are_no_number_are_refused(folder: Path) -> None:
    booster = a_booster(some_vectors(0), seed=0)
    exported = export(booster)
    trees = exported.trees.with_columns(
        pl.when(pl.col("feature") < 0).then(float("nan")).otherwise(pl.col("value")).alias("value")
    )
    with pytest.raises(UnusableModel, match="256 margins of golden rows are NaN"):
        load(changed(folder, MODEL, graph_of(trees, features=len(FEATURES))))


def test_files_that_are_something_else_are_refused(folder: Path) -> None:
    with pytest.raises(UnusableModel, match=f"ONNX Runtime refuses {MODEL}"):
        load(changed(folder, MODEL, b"not a graph"))
    with pytest.raises(UnusableModel, match="no manifest"):
        load(changed(folder, MANIFEST, b'{"format": "one"}'))
    with pytest.raises(UnusableModel, match=f"{ATTRIBUTES} can't be read"):
        load(changed(folder, ATTRIBUTES, b"{}["))
    with pytest.raises(UnusableModel, match=f"{GOLDEN} can't be read"):
        load(changed(folder, GOLDEN, b"PAR1"))
    with pytest.raises(UnusableModel, match=f"{GOLDEN} must hold rows"):
        load(changed(folder, GOLDEN, (folder / TREES).read_bytes()))


def test_a_graph_of_another_shape_is_refused(folder: Path) -> None:
    small = export(a_booster(some_vectors(0, features=4)))

    with pytest.raises(UnusableModel, match=r"takes .*4.* gives .*not"):
        load(changed(folder, MODEL, small.graph))
