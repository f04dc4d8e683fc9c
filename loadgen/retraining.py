"""The demo's last act: a model that is learnt from the archive gets in while transactions go on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
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
from loadgen.pace import at_falling_rate
from loadgen.reader import Answers
from loadgen.rehearsal import Failed, Sending, environment_of, run_command, say
from loadgen.simulate import Past
from loadgen.stream import Progress, Stream
from loadgen.target import Target
from schemas.topics import VERDICTS

MODEL = "fraud-scorer"
QUICKLY = ("--trees", "150", "--learning-rate", "0.12")
"""Fewer trees than by default, and larger steps: all the demo's parts share two cores with the training."""
AS_MANY_ALERTS = ("--thresholds-by", "champion")
"""Whoever looks at them has no more time than before."""
LEGS = ((500.0, 100.0), (25.0, 1_700.0))
"""So many transactions a second, for so many seconds: a machine that takes longer to learn than a quiet one gets less to judge
meanwhile, and traffic all the same."""
WITHIN = sum(seconds for _, seconds in LEGS)
"""Seconds of traffic: by then the swap must have been seen."""
TRANSACTIONS = sum(round(rate * seconds) for rate, seconds in LEGS)
GOES_ON_FOR = 3.0
"""Seconds of traffic after the new model's first verdict."""
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


class UntilSwapped:
    """Traffic goes on until the new model has judged some of it, and a little longer: it was promoted before."""

    def __init__(self, promoted: Callable[[], str | None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`promoted`: the new champion, None before."""
        self._promoted, self._clock = promoted, clock
        self._bundle: str | None = None
        self._since: float | None = None

    @property
    def seen(self) -> bool:
        """A verdict of the new model has come."""
        return self._since is not None

    def is_over(self, _sent: Progress | None, answers: Answers | None) -> bool:
        self._bundle = self._bundle or self._promoted()
        if self._since is None and answers is not None and self._bundle in answers.bundles:
            self._since = self._clock()
        return self._since is not None and self._clock() - self._since > GOES_ON_FOR


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
    other: Mapping[str, str] = field(default_factory=dict)
    """Variables of the training's own."""
    _training: Child = field(init=False)

    def run(self, later: Past, worker: Child) -> Swap:
        """Learn, promote, and send of `later` until the new model has judged.  Raises Failed."""
        wait_until_caught_up(self.archiver, self.settings, self.archive)
        due = at_falling_rate(LEGS)[: later.transactions.height]
        stream = Stream(later.transactions[: len(due)], later.labels, due=due)
        before = (self.bundles / "current").resolve().name
        since = self._ends()
        self._training = run_command(
            self.stack, self.folder, "training", "run", str(self.archive), "--out", str(self.bundles),
            *QUICKLY, *AS_MANY_ALERTS, "--promote", "--force", INSISTED,
            name="retraining", **environment_of(self.settings), **self.other,
        )  # fmt: skip
        until = UntilSwapped(lambda: self._promoted(before))
        with Sending(stream, frozenset(), Target(url=self.settings.kafka_url)) as sending:
            sent, _ = sending.run(worker, enough=until.is_over)
        if not until.seen:
            raise Failed(
                f"the new model had judged nothing after {WITHIN / 60:.0f} minutes of traffic, which is as long as is waited "
                f"for it.  The training says:\n{tail(self._training.log)}"
            )
        deployed = Deployments(self.settings, MODEL).latest()
        assert deployed is not None
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

    def _promoted(self, before: str) -> str | None:
        """The new champion; None while the training goes on."""
        if self._training.running:
            return None
        if self._training.status != 0:
            raise Failed(f"the retraining ended with status {self._training.status}:\n{tail(self._training.log)}")
        deployed = Deployments(self.settings, MODEL).latest()
        if deployed is None or deployed.champion.bundle == before:
            raise Failed(f"no other model was promoted:\n{tail(self._training.log)}")
        return deployed.champion.bundle

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
