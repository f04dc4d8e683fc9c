"""Somebody's table, from a drafted mapping to alerts: learnt from, loaded up to a date, and sent on from there.

docs/mapping.md walks the same way by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from deploy.local.stack import LocalStack
from loadgen.samples import write_sample
from schemas.mapping import read_past
from schemas.spans import moment
from schemas.tables import part_of
from tests.fleet.fleet import Fleet

ENOUGH = 800
"""Transactions sent to the worker."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample, and what somebody does to its draft."""

    sample: str
    edits: Mapping[str, str]
    """What a line of the draft begins with, and what stands there instead."""
    cut: str
    """Up to then it is the past."""
    attributes: set[str]


CARD_PAYMENTS = Example(
    sample="card-payments",
    edits={'zone = "UTC"': 'zone = "Europe/Berlin"'},
    cut="2024-03-25T00:00:00Z",
    attributes={"shop_age_days"},
)
PAYSIM = Example(
    sample="paysim",
    edits={'label_delay = "7d"': 'label_delay = "3d"', '    "newbalanceDest",': ""},
    cut="2024-01-26T00:00:00Z",
    attributes={"oldbalanceOrg", "oldbalanceDest"},
)
CREDITCARD = Example(
    sample="creditcard",
    edits={
        "start = 2024-01-01T00:00:00": "start = 2013-09-01T00:00:00+02:00",
        'zone = "UTC"': 'zone = "Europe/Brussels"',
    },
    cut="2013-09-02T15:00:00+02:00",
    attributes={f"V{number}" for number in range(1, 21)},
)


@pytest.mark.parametrize("example", [CARD_PAYMENTS, PAYSIM, CREDITCARD], ids=lambda example: example.sample)
def test_from_somebodys_table_to_alerts(stack: LocalStack, prefix: str, tmp_path: Path, example: Example) -> None:
    table, mapping = tmp_path / f"{example.sample}.csv", tmp_path / "mapping.toml"
    write_sample(example.sample, table)
    with Fleet(stack, prefix, tmp_path / "bundles" / "current") as fleet:
        well(fleet, "loadgen", "mapping", table, "--output", mapping)
        edit(mapping, example.edits)
        foreign = (table, "--mapping", mapping)
        learn = ("--train-until", example.cut, "--review-share", "0.05", "--trees", "60", "--smallest-leaf", "10")
        well(fleet, "training", "run", *foreign, *learn, "--no-mlflow", "--threads", "1", "--out", tmp_path / "bundles")
        well(fleet, "features", "load", *foreign, "--until", example.cut)
        fleet.start()
        well(fleet, "loadgen", "replay", *foreign, "--since", example.cut, "--limit", ENOUGH, "--rate", "1000")

        fleet.wait_for_verdicts(ENOUGH)
        fleet.check(verdicts=ENOUGH, dead_lettered={})
        live, frauds = what_was_sent(table, mapping, example.cut)
        alerts = [alert.transaction for alert in fleet.answers.alerts]
        right = sum(alert.transaction_id in frauds for alert in alerts)
        assert alerts, "the table has frauds that can be learnt"
        assert right / len(alerts) > 5 * len(frauds) / ENOUGH, "an alert is worth more than a guess"
        assert {alert.transaction_id for alert in alerts} <= set(live["transaction_id"])
        assert all(set(alert.attributes) == example.attributes for alert in alerts)


def well(fleet: Fleet, *command: object) -> None:
    status, said = fleet.run(*map(str, command))
    assert status == 0, said


def edit(mapping: Path, edits: Mapping[str, str]) -> None:
    lines = mapping.read_text(encoding="utf-8").splitlines()
    for begins, instead in edits.items():
        (number,) = (number for number, line in enumerate(lines) if line.startswith(begins))
        lines[number] = instead
    mapping.write_text("\n".join(lines), encoding="utf-8")


def what_was_sent(table: Path, mapping: Path, cut: str) -> tuple[pl.DataFrame, set[str]]:
    transactions, labels = read_past(table, mapping)
    live, _ = part_of(transactions, labels, since=moment(cut), limit=ENOUGH)
    return live, set(live.join(labels, on="transaction_id", how="semi")["transaction_id"])
