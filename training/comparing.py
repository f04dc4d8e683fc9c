"""A candidate beside the champion on the newest rows that had no part in either."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np

from features.hash_keys import PUBLIC, HashKeys
from schemas.currencies import Rates
from schemas.wire import EPOCH, microseconds
from training import replay
from training.contender import Contender
from training.costs import Costs
from training.errors import TooFew
from training.evaluate import Kept
from training.judging import Judgement, Opinion, judge
from training.narration import Narrator
from training.reading import ReadPast
from training.settings import TrainingSettings
from training.split import known_at

_SEED = 0


def compare(
    found: ReadPast,
    candidate: Contender,
    champion: Contender | None,
    *,
    rates: Rates,
    keys: HashKeys = PUBLIC,
    delay: timedelta | None,
    costs: Costs,
    least_frauds: int,
    narrator: Narrator,
) -> Judgement:
    """Both by the same rows, described as a worker sees them, with the labels that are known by the end of the past.

    A champion of which only dates say that it learnt from such rows, but none of what it learnt from is in this past, is no
    comparison: the candidate is judged alone, and the judgement names it (`elsewhere`).
    `delay`: after it a label may be expected, and younger rows say nothing; None: as the candidate was learnt with.
    Raises TooFew where there are fewer frauds than `least_frauds`, UnusablePast, and UnusableModel where one of the two
    can't be asked.
    """
    past = known_at(None, found.transactions, found.labels)
    elsewhere = None
    suspect = champion if champion is not None and champion.knew(candidate.chosen_until) else None
    if suspect is not None and suspect.learnt_elsewhere(past.transactions, keys):
        elsewhere, champion = suspect.name, None
    contenders = [candidate] if champion is None else [candidate, champion]
    for one in contenders:
        one.require_fitting()
    delay = delay or candidate.label_delay or TrainingSettings().label_delay
    since = max(one.chosen_until for one in contenders)
    narrator.stage("describe", f"describing {past.transactions.height:,} transactions as a worker sees them")
    replayed = replay.vectors(past.transactions, past.labels, rates, keys)
    time = past.transactions["occurred_at"].dt.epoch("us").to_numpy()
    mature = microseconds(past.until - delay)
    rows = replayed.accepted & (time >= microseconds(since)) & (time <= mature)
    is_fraud = past.is_fraud[rows]
    frauds = int(is_fraud.sum())
    if frauds < least_frauds or frauds == is_fraud.size:
        who = "it" if champion is None else "either"
        raise TooFew(
            f"of {is_fraud.size:,} transactions from {since:%Y-%m-%d %H:%M} to "
            f"{EPOCH + timedelta(microseconds=mature):%Y-%m-%d %H:%M}, which had no part in {who}, "
            f"in its fit or its thresholds, {frauds} are known as frauds, at least {least_frauds} are wanted: "
            "a longer past would do"
        )
    narrator.stage("judge", f"judging both by {is_fraud.size:,} transactions, {frauds:,} of them frauds")
    kept = past.transactions.filter(rows)
    described = replayed.vectors[rows]
    opinions = [
        Opinion(
            name=one.name,
            scores=one.as_of(since, past, replayed.accepted, delay).scores(described, kept),
            thresholds=one.manifest.thresholds,
        )
        for one in contenders
    ]
    for opinion in opinions:
        if not np.isfinite(opinion.scores).all():
            raise TooFew(f"bundle {opinion.name} has scores that are no numbers: nothing can be compared")
    judgement = judge(
        Kept(
            is_fraud=is_fraud,
            account=kept["account_id"],
            occurred_at=kept["occurred_at"],
            amounts=replay.amounts(kept, rates),
            currency=rates.currency,
            days=(mature - microseconds(since)) / 86_400e6,
            segments={},
        ),
        opinions[0],
        None if champion is None else opinions[1],
        costs=costs,
        seed=_SEED,
    )
    return replace(judgement, elsewhere=elsewhere)
