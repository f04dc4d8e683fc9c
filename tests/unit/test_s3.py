"""An archive in a bucket is what one in a folder is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from polars.testing import assert_frame_equal

from features.archive import Archive
from features.archive_tables import Overtaken
from schemas.topics import TRANSACTIONS
from tests.unit.archives import add, an_archive, arrived, the_table
from tests.unit.pasts import a_past


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """In a bucket that all tests share: what moto keeps, it keeps as long as the process."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - takes a second

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "ENDPOINT_URL": f"http://{host}:{port}",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bank")
    yield f"s3://bank/{request.node.name}"
    server.stop()


def test_a_past_is_read_from_a_bucket_as_from_a_folder(place: str, tmp_path: Path) -> None:
    transactions, labels = a_past(days=1)

    in_bucket = Archive.open(an_archive(place, transactions, labels)).past()
    in_folder = Archive.open(str(an_archive(tmp_path, transactions, labels))).past()

    for one, other in zip(in_bucket, in_folder, strict=True):
        assert_frame_equal(one, other)


def test_of_two_archivers_in_a_bucket_one_is_refused(place: str) -> None:
    one, other = the_table(place), the_table(place)
    message = arrived([b"{}"], [b"key"])
    add(one, TRANSACTIONS, message)

    with pytest.raises(Overtaken):
        add(other, TRANSACTIONS, message)

    assert the_table(place).count() == 1
