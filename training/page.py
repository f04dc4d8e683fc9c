"""The evaluation as one HTML page that needs nothing else: no script, no address, drawings inline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from schemas.bundle import Manifest
from schemas.currencies import money
from training.evaluate import CARDS, Confusion, Curve, Evaluation
from training.judging import Interval, Judged, Judgement
from training.settings import Policy
from training.thresholds import NEVER
from training.validating import Finding

_POINTS = 400
_MOST_IMPORTANT = 20
_SIZE, _LEFT, _BELOW, _MARGIN = 260, 44, 40, 14

_STYLE = """
:root { --ink: #1c2430; --dim: #667085; --line: #d7dce3; --back: #fff; --panel: #f6f7f9; --mark: #2457c5;
  --other: #b26b00; --alarm: #b42318 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --dim: #98a2b3; --line: #344054; --back: #12161c; --panel: #1a2029; --mark: #7aa2f7;
    --other: #e0af68; --alarm: #f97066 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p { color: var(--dim); margin: .3rem 0 }
.figures { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1.2rem 0 }
.figures div { background: var(--panel); border-radius: .5rem; padding: .6rem .9rem; min-width: 8.2rem }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.figures span, .figures small { color: var(--dim); font-size: .82rem }
.figures small { display: block; font-variant-numeric: tabular-nums }
.drawings { display: flex; flex-wrap: wrap; gap: 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; width: 100% }
th, td { text-align: right; padding: .22rem .6rem; border-bottom: 1px solid var(--line) }
th { font-weight: 600 }
th:first-child, td:first-child, .said th, .said td { text-align: left }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif }
svg .title { fill: var(--ink); font-size: 13px; font-weight: 600 }
svg .axis { stroke: var(--line) }
svg .even { stroke: var(--dim); stroke-dasharray: 3 4 }
svg polyline { fill: none; stroke: var(--mark); stroke-width: 2 }
svg polyline.champion { stroke: var(--other); stroke-width: 1.5; stroke-dasharray: 6 3 }
svg .bar, svg .review { fill: var(--mark) }
svg .decline { fill: var(--alarm) }
"""

_KNEW = (
    "Some of the transactions that judge it had a part in what it is: expect live figures below these, and no gate goes by "
    "them."
)
_DID_NOT_KNOW = "The transactions that judge it had no part in any choice."
_COMPARED = ("figure", "this model", "in 95 of 100 draws", "champion", "in 95 of 100 draws", "difference",
             "in 95 of 100 draws")  # fmt: skip
_CONFUSION = ("from a score of", "frauds flagged", "genuine flagged", "frauds missed", "genuine passed", "precision",
              "recall")  # fmt: skip
_DAYS = ("day", "transactions", "frauds", "alerts", "precision", "recall", f"card precision@{CARDS}")
_PARTS = ("part", "transactions", "frauds", "average precision", "precision of the alerts", "recall of the alerts")

_NAMES = {
    "average_precision": "average precision",
    "auc": "AUC",
    "recall_at_1_percent_false_positives": "recall at 1 % false positives",
    f"card_precision_{CARDS}": f"card precision@{CARDS}",
    "lift_at_20_percent": "lift at 20 %",
    "cost_per_1000": "cost per 1,000 transactions",
    "brier": "Brier score",
    "alerts_per_day": "alerts a day",
}
"""Of metrics, as people call them, in the page's order."""
_POLICIES = {
    Policy.PRECISION: "the most recall within a bound of the alerts and with enough precision",
    Policy.CAPACITY: "as many alerts as somebody can look at",
    Policy.COST: "the least cost of the transactions that chose them",
    Policy.CHAMPION: "as many of the transactions that chose them as the champion",
}
"""By training.settings.Policy."""


def page(
    manifest: Manifest,
    judgement: Judgement,
    *,
    importance: npt.NDArray[np.float64],
    uncalibrated: float,
    odd: Sequence[Finding] = (),
) -> str:
    """`importance`: each feature's share [features], in the manifest's order.  `uncalibrated`: the learner's own Brier score.

    `odd`: what was found about the past.
    """
    trained, champion, evaluation = manifest.trained, judgement.champion, judgement.model.evaluation
    figures = evaluation.metrics
    share = figures["fraud_share"]
    currency = judgement.currency
    beside = None if champion is None else champion.evaluation
    made_with = {
        **manifest.learner,
        **trained,
        "catalogue": manifest.catalogue,
        "attributes": ", ".join(f"{one.column} ({one.encoding})" for one in manifest.attributes) or "none",
        **{f"left out: {column}": why for column, why in manifest.left_out.items()},
        "calibration slope": manifest.calibration.slope,
        "calibration intercept": manifest.calibration.intercept,
    }
    drawings = (
        _drawing("Precision and recall", "recall", "precision", evaluation.precision_recall, even=(share, share),
                 beside=None if beside is None else beside.precision_recall,
                 marks=[(name, at.recall, at.precision) for name, at in _reached(evaluation)]),
        _drawing("ROC", "false positives", "true positives", evaluation.roc, even=(0, 1),
                 beside=None if beside is None else beside.roc,
                 marks=[(name, at.false_positives, at.recall) for name, at in _reached(evaluation)]),
        _drawing("Calibration", "mean score", "share of frauds", evaluation.reliability, even=(0, 1), dots=True),
    )  # fmt: skip
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>How well the model does</title><style>{_STYLE}</style></head><body>
<h1>How well the model does</h1>
<p>Fitted on {_count(trained["rows"])} transactions ({_count(trained["frauds"])} frauds) from
{_when(trained["from"])} to {_when(trained["until"])}. Where the trees end, the calibration and the thresholds were chosen by
{_count(trained["validation_rows"])} later ones ({_count(trained["validation_frauds"])} frauds) from
{_when(trained["validation_from"])} to {_when(trained["validation_until"])}. Judged by {_count(trained["test_rows"])}
({_count(trained["test_frauds"])} frauds) from {_when(trained["test_from"])} to {_when(trained["test_until"])}, with what was
known on {_when(trained["known_until"])}.</p>
<p>{_KNEW if judgement.model.knew else _DID_NOT_KNOW}</p>
<div class="figures">
{"".join(_figure(name, judgement.model, currency) for name in _NAMES)}
</div>
{_odd(odd)}
<h2>Beside the champion</h2>
{_beside_champion(judgement, currency)}
<h2>Curves</h2>
<div class="drawings">
{"".join(drawings)}
</div>
<p>Calibrated by {"Platt's line" if manifest.calibration.margins is UNSET else "isotonic regression"}: the Brier score is
{figures["brier"]:.5f}; before it was {uncalibrated:.5f}.</p>
<p>Blue: this model{"" if beside is None else "; broken line: the champion"}, and a dot for its review threshold; red: its
decline threshold. Dashed: a model that knows nothing; for the calibration, a perfect one.</p>
<h2>At the thresholds</h2>
{_table(_CONFUSION, _confusions(judgement))}
<p>{_chosen(manifest)} Nothing flagged would cost {money(figures["cost_per_1000_if_all_are_approved"], currency)} per 1,000
transactions, this model costs {money(figures["cost_per_1000"], currency)}.</p>
<h2>What it goes by</h2>
{_bars(manifest.features, importance)}
<h2>Day by day</h2>
{_days(evaluation, beside, currency)}
<h2>By part</h2>
{_parts(evaluation, beside)}
<h2>Made with</h2>
{_table(("", ""), [(name, str(value)) for name, value in made_with.items()])}
</body></html>
"""


def _odd(odd: Sequence[Finding]) -> str:
    if not odd:
        return ""
    rows = [(finding.about, finding.says) for finding in odd]
    return f'<h2>What is odd about the data</h2>\n<div class="said">{_table(("about", "what"), rows)}</div>'


def _beside_champion(judgement: Judgement, currency: str) -> str:
    model, champion = judgement.model, judgement.champion
    if champion is None:
        if judgement.elsewhere is not None:
            return (
                f"<p>The champion, the bundle {escape(judgement.elsewhere)}, learnt from other transactions than these: it is "
                "no comparison.</p>"
            )
        return "<p>There was none to compare with: this is the first model of its catalogue here.</p>"
    rows = []
    for name, words in _NAMES.items():
        here, there = model.evaluation.metrics[name], champion.evaluation.metrics[name]
        rows.append(
            (
                words,
                *(_said(name, here, currency), _between(name, model.intervals, currency)),
                *(_said(name, there, currency), _between(name, champion.intervals, currency)),
                *(_said(name, here - there, currency), _between(name, judgement.differences, currency)),
            )
        )
    knew = (
        "<p>Some of these very transactions had a part in the champion: its figures may be too good.</p>"
        if champion.knew
        else ""
    )
    return (
        f"<p>The champion is the bundle {escape(champion.name)}, asked about the same transactions and flagging at its own "
        f"thresholds. The draws are of accounts, the same ones for both.</p>{knew}{_table(_COMPARED, rows)}"
    )


def _confusions(judgement: Judgement) -> list[tuple[str, ...]]:
    model, champion = judgement.model.evaluation, judgement.champion
    rows = [_confusion("review", model.review), _confusion("decline", model.decline)]
    if champion is not None:
        rows += [
            _confusion("champion's review", champion.evaluation.review),
            _confusion("champion's decline", champion.evaluation.decline),
        ]
    return rows


def _chosen(manifest: Manifest) -> str:
    by = dict(manifest.thresholds_by)
    policy = Policy(str(by.pop("policy")))
    with_what = ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}" for name, value in by.items()
    )
    units = ", in minor units" if policy is Policy.COST else ""
    in_brackets = f" ({escape(with_what)}{units})" if by else ""
    return f"Thresholds by {escape(policy)}: {_POLICIES[policy]}{in_brackets}."


def _days(evaluation: Evaluation, beside: Evaluation | None, currency: str) -> str:
    rows = []
    for number, day in enumerate(evaluation.days):
        row = (
            day.day,
            *(_count(count) for count in (day.rows, day.frauds, day.alerts)),
            _share(day.caught, day.alerts),
            _share(day.caught, day.frauds),
            _number(day.card_precision),
        )
        champions = () if beside is None else (_number(beside.days[number].card_precision),)
        rows.append((*row, *champions, money(evaluation.costs[number], currency)))
    return _table((*_DAYS, *(() if beside is None else ("the champion's",)), "cost"), rows)


def _parts(evaluation: Evaluation, beside: Evaluation | None) -> str:
    rows = []
    for number, part in enumerate(evaluation.segments):
        row = (
            f"{part.of}: {part.value}",
            *(_count(count) for count in (part.rows, part.frauds)),
            *(_number(number) for number in (part.average_precision, part.precision, part.recall)),
        )
        champions = () if beside is None else (_number(beside.segments[number].average_precision),)
        rows.append((*row, *champions))
    return _table((*_PARTS, *(() if beside is None else ("the champion's average precision",))), rows)


def _reached(evaluation: Evaluation) -> list[tuple[str, Confusion]]:
    """The thresholds that a score reaches."""
    both = (("review", evaluation.review), ("decline", evaluation.decline))
    return [(name, at) for name, at in both if at.precision is not None]


def _figure(name: str, judged: Judged, currency: str) -> str:
    value, between = judged.evaluation.metrics[name], _between(name, judged.intervals, currency)
    small = f"<small>{escape(between)}</small>" if between else ""
    return f"<div><b>{escape(_said(name, value, currency))}</b><span>{escape(_NAMES[name])}</span>{small}</div>\n"


def _said(name: str, value: float, currency: str) -> str:
    if name == "cost_per_1000":
        return money(value, currency)
    return f"{value:.{5 if name == 'brier' else 1 if name == 'alerts_per_day' else 4}f}"


def _between(name: str, intervals: Mapping[str, Interval], currency: str) -> str:
    if name not in intervals:
        return ""
    return f"{_said(name, intervals[name].low, currency)} to {_said(name, intervals[name].high, currency)}"


def _drawing(
    title: str,
    across: str,
    up: str,
    curve: Curve,
    *,
    even: tuple[float, float],
    beside: Curve | None = None,
    marks: Iterable[tuple[str, float, float | None]] = (),
    dots: bool = False,
) -> str:
    """Both axes from 0 to 1; `even`: a dashed line's height at 0 and at 1."""

    def at(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + x * _SIZE, 1), round(_MARGIN + 22 + (1 - y) * _SIZE, 1)

    def points_of(line: Curve) -> list[tuple[float, float]]:
        some = np.unique(np.linspace(0, line.x.size - 1, min(line.x.size, _POINTS)).astype(np.int64))
        return [at(float(x), float(y)) for x, y in zip(line.x[some], line.y[some], strict=True)]

    drawn = [f'<text class="title" x="{_LEFT}" y="14">{escape(title)}</text>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        (x, low), (_, high) = at(tick, 0), at(tick, 1)
        (left, y), (right, _) = at(0, tick), at(1, tick)
        drawn.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>')
        drawn.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text x="{x}" y="{low + 15}" text-anchor="middle">{tick:g}</text>')
        drawn.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    (x0, y0), (x1, y1) = at(0, even[0]), at(1, even[1])
    drawn.append(f'<line class="even" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>')
    if beside is not None:
        drawn.append(f'<polyline class="champion" points="{_pairs(points_of(beside))}"/>')
    drawn.append(f'<polyline points="{_pairs(points_of(curve))}"/>')
    if dots:
        drawn += [f'<circle class="review" cx="{x}" cy="{y}" r="3"/>' for x, y in points_of(curve)]
    for name, across_at, up_at in marks:
        x, y = at(across_at, up_at or 0.0)
        drawn.append(f'<circle class="{name}" cx="{x}" cy="{y}" r="5"><title>{name}</title></circle>')
    middle, height = at(0.5, 0)
    drawn.append(f'<text x="{middle}" y="{height + 31}" text-anchor="middle">{escape(across)}</text>')
    _, half = at(0, 0.5)
    drawn.append(f'<text x="12" y="{half}" text-anchor="middle" transform="rotate(-90 12 {half})">{escape(up)}</text>')
    width, height = _LEFT + _SIZE + _MARGIN, _MARGIN + 22 + _SIZE + _BELOW
    return f'<svg role="img" aria-label="{escape(title)}" width="{width}" height="{height}">{"".join(drawn)}</svg>'


def _pairs(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _bars(features: Sequence[str], importance: npt.NDArray[np.float64]) -> str:
    order = np.argsort(-importance, kind="stable")[:_MOST_IMPORTANT]
    order = order[importance[order] > 0]
    longest = float(importance[order].max()) if order.size else 1.0
    rows = []
    for row, feature in enumerate(order):
        share, y = float(importance[feature]), 20 * row
        rows.append(
            f'<text x="250" y="{y + 13}" text-anchor="end">{escape(features[feature])}</text>'
            f'<rect class="bar" x="258" y="{y + 3}" width="{share / longest * 420:.1f}" height="13" rx="2"/>'
            f'<text x="{264 + share / longest * 420:.1f}" y="{y + 13}">{100 * share:.1f} %</text>'
        )
    return (
        f'<svg role="img" aria-label="importance" width="760" height="{20 * len(rows)}">{"".join(rows)}</svg>'
        "<p>Share of the gain of all splits; of a logistic regression, of how far each feature moves the margin.</p>"
    )


def _confusion(name: str, at: Confusion) -> tuple[str, ...]:
    start = "never" if at.threshold >= NEVER else f"{at.threshold:.4g}"
    counts = (_count(count) for count in (at.caught, at.wrong, at.missed, at.passed))
    return (f"{name}: {start}", *counts, _number(at.precision), _number(at.recall))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    header = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{header}<tbody>{body}</tbody></table></div>'


def _count(number: float | str) -> str:
    return f"{number:,}" if isinstance(number, int) else str(number)


def _share(part: int, whole: int) -> str:
    return _number(part / whole if whole else None)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _when(moment: float | str) -> str:
    return escape(str(moment)[:16].replace("T", " "))
