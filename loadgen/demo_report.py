"""What came of a demo: its report, for programs and for people."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from rich.table import Table as Lines

from features.settings import Settings
from loadgen.check import Report
from loadgen.holding import Leg, Performed
from loadgen.latency import Latency
from loadgen.mischief import DUPLICATE, expected
from loadgen.rehearsal import bytes_per_account, out, say, versions
from loadgen.retraining import Swap
from loadgen.stream import Stream

KEPT_UP_WITHIN_MS = 1_000.0
"""The worker kept up if its last verdict was no later than this, and the sender if 99 % of its messages weren't."""


class DemoReport(msgspec.Struct, kw_only=True):
    """`.local/demo/report.json`."""

    sent: int
    """Transactions that were due one verdict each, those of the swap included."""
    verdicts: int
    alerts: int
    explained_afterwards: int
    """Alerts that went out before their reasons."""
    without_reasons: int
    """Alerts that never got any."""
    dead_lettered: dict[str, int]
    dead_letters_planned: dict[str, int]
    duplicates_sent: int
    lost: int
    doubled: int
    contradicting: int
    profiles_compared: int
    profiles_different: int
    vectors_compared: int
    vectors_compared_in_full: int
    vectors_different_if_instant: int
    activity_late: int
    latency_ms: Latency
    """From when a transaction was due to its verdict, as a read_committed consumer sees it."""
    histogram: str
    """The same, HdrHistogram V2 in base64, in microseconds."""
    sender_lateness_ms: Latency
    rate: float
    rate_asked_for: float
    legs: tuple[Leg, ...]
    """What was sent at which rate: one, where the machine held what was asked for."""
    kept_up: bool
    precision: float
    """Of the alerts: frauds among them, by the simulated truth."""
    recall: float
    """Of the frauds: alerts among them."""
    redis_bytes_per_account: int
    """Median of MEMORY USAGE, key and all."""
    archived: dict[str, int]
    """Rows of the archive's tables."""
    swap: Swap
    model: dict[str, float]
    bundle: str
    """The first one."""
    seconds: dict[str, float]
    versions: dict[str, str]

    @property
    def well(self) -> bool:
        """What the demo promises."""
        return not (
            self.lost or self.doubled or self.contradicting or self.profiles_different
            or self.without_reasons or self.verdicts != self.sent or self.dead_lettered != self.dead_letters_planned
        )  # fmt: skip


def report_of(
    stream: Stream,
    performed: Performed,
    found: Report,
    archived: dict[str, int],
    swap: Swap,
    frauds: int,
    bundle: Path,
    settings: Settings,
    seconds: dict[str, float],
) -> DemoReport:
    """While the stack still runs.  `bundle`: the folder of the one that judged; `seconds`: what each step took."""
    sent, answers = performed.sent, performed.answers
    planned = expected(stream.planted) if sent.finished else dict(sent.planted)
    duplicates = planned.pop(DUPLICATE, 0)
    manifest = json.loads((bundle / "bundle.json").read_text())
    last = stream.duration() + KEPT_UP_WITHIN_MS / 1e3
    return DemoReport(
        sent=sent.transactions + swap.sent,
        verdicts=found.verdicts,
        alerts=found.alerts,
        explained_afterwards=found.explanations,
        without_reasons=found.awaited,
        dead_lettered=dict(sorted(found.dead_lettered.items())),
        dead_letters_planned=dict(sorted(planned.items())),
        duplicates_sent=duplicates,
        lost=found.lost + answers.awaited + sum(sent.failed.values()),
        doubled=found.doubled,
        contradicting=found.contradicting,
        profiles_compared=found.profiles_compared,
        profiles_different=found.profiles_different,
        vectors_compared=found.vectors_compared,
        vectors_compared_in_full=found.vectors_compared_in_full,
        vectors_different_if_instant=found.vectors_different_if_instant,
        activity_late=found.activity_late,
        latency_ms=answers.total,
        histogram=answers.histogram,
        sender_lateness_ms=sent.lateness,
        rate=sent.rate,
        rate_asked_for=performed.legs[0].rate,
        legs=performed.legs,
        kept_up=bool(
            performed.held
            and answers.total.p99 < KEPT_UP_WITHIN_MS
            and sent.lateness.p99 < KEPT_UP_WITHIN_MS
            and sent.seconds < last + 5
        ),
        precision=answers.right_alerts / answers.alerts if answers.alerts else 0.0,
        recall=answers.right_alerts / frauds if frauds else 0.0,
        redis_bytes_per_account=bytes_per_account(settings),
        archived=archived,
        swap=swap,
        model=manifest["metrics"],
        bundle=bundle.resolve().name,
        seconds=seconds,
        versions=versions(settings),
    )


def write(report: DemoReport, folder: Path) -> Path:
    """`report.json` in `folder`, at once."""
    target = folder / "report.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return partial.replace(target)


def _lowered(report: DemoReport) -> str:
    if len(report.legs) == 1:
        return ""
    rates = ", ".join(f"{leg.rate:,.0f}" for leg in report.legs)
    return f": this machine was asked for {rates} a second, one after the other"


def show(report: DemoReport, found: Report, *, archive: Path) -> None:
    """The report for people."""
    latency = report.latency_ms
    planned = "as planned" if report.dead_lettered == report.dead_letters_planned else "NOT as planned"
    kept_up = "kept up" if report.kept_up else "did NOT keep up"
    named = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "p99.9": latency.p99_9, "max": latency.max}
    rows = [
        (
            "sent",
            f"{report.sent - report.swap.sent:,} transactions at {report.rate:,.0f} a second; {kept_up}{_lowered(report)}; "
            f"then {report.swap.sent:,} more",
        ),
        ("verdicts", f"{report.verdicts:,}"),
        ("lost, doubled, contradicting", f"{report.lost}, {report.doubled}, {report.contradicting}"),
        ("dead letters", f"{sum(report.dead_lettered.values()):,}, {planned}"),
        ("duplicates", f"{report.duplicates_sent:,} sent, one verdict each"),
        ("alerts", f"{report.alerts:,}; precision {report.precision:.1%}, recall {report.recall:.1%} (simulated truth)"),
        ("reasons", f"{report.explained_afterwards:,} followed their alert, {report.without_reasons:,} are missing"),
        ("due to verdict", ", ".join(f"{name} {ms:.1f}" for name, ms in named.items()) + " ms"),
        ("vectors computed again", f"{report.vectors_compared_in_full:,}, {found.vectors_different:,} different"),
        ("profiles folded again", f"{report.profiles_compared:,}, {report.profiles_different} different"),
        (
            "model swapped",
            f"{report.swap.before} → {report.swap.after} (version {report.swap.version or 'unknown'}); first verdict "
            f"{report.swap.seconds_to_first_verdict:.1f} s later, {report.swap.verdicts:,} by it; lost {report.lost}",
        ),
        ("archived", f"{sum(report.archived.values()):,} rows in {archive}"),
        ("Redis", f"{report.redis_bytes_per_account:,} bytes an account"),
    ]  # fmt: skip
    table = Lines("", "", show_header=False, box=None, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    out.print()
    out.print(table)
    for example in found.examples:
        say(f"  {example}")
    out.print()
