"""The demo's last act: a model that is learnt from the archive gets in while transactions go on."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from deploy.local.children import Child, tail
from deploy.local.stack import LocalStack
from features.deployments import Deployments
from features.log import Log
from features.settings import Settings
from loadgen.archiving import wait_until_caught_up
from loadgen.rehearsal import Failed, Sending, environment_of, run_command, say
from loadgen.stream import Stream
from loadgen.target import Target
from schemas.topics import VERDICTS

MODEL = "fraud-scorer"
QUICKLY = ("--trees", "150", "--learning-rate", "0.12")
"""Fewer trees than by default, and larger steps: all the demo's parts share two cores with the training."""
AS_MANY_ALERTS = ("--thresholds-by", "champion")
"""Whoever looks at them has no more time than before."""
GOES_ON_FOR = 3.0
"""Seconds of traffic after the swap."""
GATE = re.compile("(NOT )?passed ")
"""How a line of a training's log begins that tells of a gate."""
INSISTED = "the demo shows a swap, whichever model is better"


class Swap(msgspec.Struct, kw_only=True):
    """What came of it."""

    before: str
    """The bundle that judged."""
    after: str
    """The one that judges now, and its version in MLflow."""
    version: str | None
    refused_by_gates: bool
    """It got in only because the demo insisted."""
    sent: int
    """Transactions that went on meanwhile."""
    verdicts: int
    """Of them, by the new bundle."""
    first_verdict: str
    """The transaction that it judged first."""
    seconds_to_first_verdict: float
    """After the promotion was said."""


class _Verdict(msgspec.Struct):
    transaction_id: str
    bundle: str
    decided_at: datetime


@dataclass
class Retraining:
    """On its way beside the stream."""

    stack: LocalStack
    settings: Settings
    folder: Path
    bundles: Path
    archive: Path
    archiver: Child
    _training: Child = field(init=False)
    _over_at: float | None = field(init=False, default=None)

    def run(self, stream: Stream, worker: Child) -> Swap:
        """Learn, promote, and send meanwhile.  Raises Failed."""
        wait_until_caught_up(self.archiver, self.settings, self.archive)
        before = (self.bundles / "current").resolve().name
        since = self._ends()
        self._training = run_command(
            self.stack, self.folder, "training", "run", str(self.archive), "--out", str(self.bundles),
            *QUICKLY, *AS_MANY_ALERTS, "--promote", "--force", INSISTED,
            name="retraining", **environment_of(self.settings),
        )  # fmt: skip
        with Sending(stream, frozenset(), Target(url=self.settings.kafka_url)) as sending:
            sent, _ = sending.run(worker, enough=self._is_over)
        while not self._is_over():  # the stream was too short for this machine
            if not worker.running:
                raise Failed(f"the worker ended with status {worker.status}:\n{tail(worker.log)}")
            time.sleep(0.1)
        deployed = Deployments(self.settings, MODEL).latest()
        if deployed is None or deployed.champion.bundle == before:
            raise Failed(f"no other model was promoted:\n{tail(self._training.log)}")
        mine = [verdict for verdict in self._verdicts(since) if verdict.bundle == deployed.champion.bundle]
        if not mine:
            raise Failed(f"bundle {deployed.champion.bundle} was promoted, and has judged nothing")
        first = min(mine, key=lambda verdict: verdict.decided_at)
        change = deployed.changes[-1]
        swap = Swap(
            before=before,
            after=deployed.champion.bundle,
            version=deployed.champion.version,
            refused_by_gates=change.forced,
            sent=sent.transactions,
            verdicts=len(mine),
            first_verdict=first.transaction_id,
            seconds_to_first_verdict=round((first.decided_at - change.at).total_seconds(), 2),
        )
        for line in self._training.log.read_text(encoding="utf-8").splitlines():
            if GATE.match(line):
                say(f"  {line}")
        say(f"  {swap.before} → {swap.after}, version {swap.version}: {change.why}")
        say(
            f"  its first verdict is {swap.first_verdict}'s, {swap.seconds_to_first_verdict:.1f} s after the promotion; "
            f"{swap.verdicts:,} of {swap.sent:,} are its"
        )
        return swap

    def _is_over(self) -> bool:
        if self._training.running:
            return False
        if self._over_at is None:
            if self._training.status != 0:
                raise Failed(f"the retraining ended with status {self._training.status}:\n{tail(self._training.log)}")
            self._over_at = time.monotonic()
        return time.monotonic() - self._over_at > GOES_ON_FOR

    def _ends(self) -> list[int]:
        with Log(self.settings) as log:
            return [log.bounds(VERDICTS, number)[1] for number in range(self.settings.partitions)]

    def _verdicts(self, since: list[int]) -> list[_Verdict]:
        decode = msgspec.json.Decoder(_Verdict).decode
        with Log(self.settings) as log:
            return [
                decode(record.value or b"")
                for number, begin in enumerate(since)
                for some in log.read(VERDICTS, number, begin, log.bounds(VERDICTS, number)[1])
                for record in some
            ]
