"""A model may learn from the vectors that workers put into their verdicts: those and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from features.archive import Archive
from features.catalogue import DIGEST, FEATURES
from schemas.bundle import MANIFEST, MODEL, Manifest
from schemas.topics import VERDICTS
from tests.unit.archives import an_archive, judged
from tests.unit.pasts import a_past
from training import __main__ as command
from training import replay
from training.errors import UnusablePast
from training.job import TrainedBundle, train
from training.served import Served, read_served
from training.settings import TrainingSettings

TRANSACTIONS, LABELS = a_past(per_day=40)
ROWS = TRANSACTIONS.height
BEHIND = np.array([7.0, 8.0], np.float32)
"""What the encoder of that time put behind the catalogue's features."""


@pytest.fixture(scope="module")
def replayed() -> npt.NDArray[np.float32]:
    return replay.vectors(TRANSACTIONS, LABELS).vectors


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles, `there` among them."""
    folder = tmp_path_factory.mktemp("bundles")
    train(TRANSACTIONS, LABELS, settings=settings(folder)).path.rename(folder / "there")
    return folder


def settings(out: Path) -> TrainingSettings:
    return TrainingSettings(out=out, trees=10, leaves=7, smallest_leaf=5, threads=1)


def raw(vectors: npt.NDArray[np.float32]) -> list[bytes | None]:
    return [np.append(vector, BEHIND).tobytes() for vector in vectors]


def archived(
    folder: Path, vectors: Sequence[bytes | None], bundle: str = "there", digest: str | None = None
) -> Archive:
    an_archive(folder, TRANSACTIONS, LABELS)
    judged(folder, TRANSACTIONS, vectors, bundle, digest=digest)
    return Archive.open(str(folder), also=(VERDICTS,))


def learnt(archive: Archive, out: Path, served: Served | None) -> TrainedBundle:
    return train(*archive.past(), settings=settings(out), data=str(archive), served=served)


def test_what_was_served_is_the_catalogues_part_of_the_verdicts_vectors(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path
) -> None:
    later = [vector if row % 3 else None for row, vector in enumerate(raw(replayed))]
    archive = archived(tmp_path, later)

    served = read_served(archive, bundles)

    order = TRANSACTIONS.with_row_index("row").join(archive.past()[0], on="transaction_id", maintain_order="right")[
        "row"
    ]
    assert served.there.tolist() == [row % 3 > 0 for row in order]
    assert served.vectors[served.there].tobytes() == replayed[order][served.there].tobytes()
    assert np.isnan(served.vectors[~served.there]).all()


def test_served_as_a_replay_makes_them_they_teach_the_same(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path
) -> None:
    archive = archived(tmp_path / "archive", raw(replayed))

    by_served = learnt(archive, tmp_path / "served", read_served(archive, bundles))
    by_replay = learnt(archive, tmp_path / "replayed", None)

    assert (by_served.path / MODEL).read_bytes() == (by_replay.path / MODEL).read_bytes()
    said = by_served.manifest.trained
    assert (said["vectors"], said["without_vector"], said["unlike_replayed"]) == ("served", 0, 0)
    assert said["data"] == str(archive).removesuffix(",verdicts=1") + ",verdicts=1"


def test_rows_without_a_vector_are_left_out_and_what_differs_is_counted(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path
) -> None:
    late = replayed.copy()
    late[:50, FEATURES.index("hour")] += 1
    archive = archived(tmp_path / "archive", [b"" if 399 < row < 600 else one for row, one in enumerate(raw(late))])

    some = learnt(archive, tmp_path, read_served(archive, bundles)).manifest.trained
    all_of_it = learnt(archive, tmp_path, None).manifest.trained

    assert (some["without_vector"], some["unlike_replayed"]) == (200, 50)
    assert some["rows"] == int(all_of_it["rows"]) - 200
    assert "vectors" not in all_of_it


def test_a_vector_that_is_not_what_its_digest_says_is_none(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path
) -> None:
    with pytest.raises(UnusablePast, match=r"no verdict in .* has a vector: .*FRAUD_VECTORS"):
        read_served(archived(tmp_path, raw(replayed), digest="0" * 16), bundles)


def test_vectors_of_another_catalogue_are_refused_by_name(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path
) -> None:
    manifest = msgspec.json.decode((bundles / "there" / MANIFEST).read_bytes(), type=Manifest)
    other = tmp_path / "bundles" / "there"
    other.mkdir(parents=True)
    (other / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, catalogue="0123456789abcdef")))

    with pytest.raises(
        UnusablePast, match=rf"bundle there hold vectors of catalogue 0123456789abcdef, and ours is {DIGEST}"
    ):
        read_served(archived(tmp_path / "archive", raw(replayed)), tmp_path / "bundles")


def test_vectors_of_a_bundle_that_is_gone_are_refused_by_name(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path
) -> None:
    with pytest.raises(
        UnusablePast, match=r"of bundle gone, and what its vectors hold can't be known: .*gone/bundle.json"
    ):
        read_served(archived(tmp_path, raw(replayed), bundle="gone"), bundles)


def test_the_command_says_how_many_differ(
    tmp_path: Path, replayed: npt.NDArray[np.float32], bundles: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    archived(tmp_path / "archive", raw(replayed))
    quick = ("--trees", "10", "--smallest-leaf", "5", "--threads", "1", "--no-mlflow", "--vectors", "served")

    assert run(monkeypatch, tmp_path / "archive", "--out", bundles, *quick) == 0
    assert f"{ROWS:,} vectors as served, 0 of them not as replayed" in capsys.readouterr().err


def test_nothing_but_an_archive_has_vectors_as_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    TRANSACTIONS.write_parquet(tmp_path / "transactions.parquet")
    LABELS.write_parquet(tmp_path / "labels.parquet")

    assert run(monkeypatch, tmp_path, "--vectors", "served") == 2
    assert f"{tmp_path} is no archive" in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", "run", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


def test_a_version_names_the_verdicts_that_were_read(tmp_path: Path, replayed: npt.NDArray[np.float32]) -> None:
    archive = archived(tmp_path, raw(replayed))
    judged(tmp_path, TRANSACTIONS.head(0), [], "there")

    again = Archive.open(str(archive), also=(VERDICTS,))
    assert sum(some.height for some in again.verdicts()) == ROWS
    assert str(Archive.open(str(archive))) == str(archive).rpartition(",")[0]
