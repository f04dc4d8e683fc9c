"""The recipe: what was known, described by the worker's own kernel, fitted, judged, exported, and put in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import DIGEST, FEATURES
from features.hash_keys import PUBLIC, HashKeys
from schemas.bundle import CURRENT, FORMAT, Manifest, Thresholds, make_current
from schemas.currencies import DEFAULT_RATES, Rates
from schemas.errors import UnusableModel
from schemas.mapping import Rejected
from training import attributes, cluster, prequential, replay
from training.bundle import write
from training.calibration import brier, calibrated, probabilities
from training.contender import Contender
from training.deploying import Changed
from training.errors import ParityBroken
from training.evaluate import Kept
from training.export import require_parity
from training.judging import Judged, Judgement, Opinion, judge
from training.learners.chosen import learner_of
from training.learners.learner import Card, Fitted, Learner, Rows
from training.narration import Narrator, Silent
from training.origin import marks
from training.page import page
from training.served import Compared, Served, instead_of
from training.settings import Imbalance, Policy, TrainingSettings
from training.split import KnownPast, Split, known_at, split
from training.thresholds import choose, flags_nothing, went_by
from training.tracking import Told
from training.validating import Validation, validate

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

GOLDEN_ROWS = 256
_MOMENT = timedelta(microseconds=1)
_NEW_ACCOUNT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class TrainedBundle:
    """What a run leaves."""

    path: Path
    """The bundle's folder; `current` beside it names it where it named none."""
    manifest: Manifest
    metrics: dict[str, float]
    """The manifest's: on the test's rows."""
    judgement: Judgement
    """The same rows by the champion too."""
    validation: Validation
    """What was odd about the past."""
    folds: tuple[prequential.Judged, ...] = ()
    """How the same did at earlier dates, where that was asked for."""


def train(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    settings: TrainingSettings | None = None,
    rates: Rates = DEFAULT_RATES,
    keys: HashKeys = PUBLIC,
    rejected: Sequence[Rejected] = (),
    narrator: Narrator | None = None,
    data: str | None = None,
    champion: Path | None = None,
    served: Served | None = None,
) -> TrainedBundle:
    """A bundle learnt from a past (frames as schemas.tables has them, in the order of the log).

    Of the rows that are kept from the fit the older half chooses how many trees, the calibration and the thresholds; by the
    newer half it is judged, beside the `champion`, a bundle's folder; None: the one that `current` names.  Where that names
    none, the new one is made current: somebody has to begin.
    `rates` must be the workers', or amounts mean something else; `keys` too, where vectors are to be equal to the bit.
    `rejected`: rows that the mapping could make no transactions of.  `data` names the past, where it has a name that
    stays (an archive at a version); the manifest keeps it.  `served`, of the same transactions: these vectors are learnt
    from, and no others.  The same past, settings, code and libraries give the same digest.

    Raises WrongSettings, UnusablePast, NotExportable, ParityBroken, ClusterLost, OSError;
    then nothing was written, and `current` is what it was.
    """
    settings = settings or TrainingSettings()
    tell = narrator or Silent()
    learner = _learner(settings)

    tell.stage("validate", f"looking for what is wrong or odd about {transactions.height:,} transactions")
    validation = validate(
        transactions,
        labels,
        attributes=settings.attributes,
        trusted=settings.trusted,
        rejected=rejected,
        settings=settings,
        rates=rates,
        of_a_log=data is not None,
    )
    validation.require_usable()
    for finding in validation.odd:
        tell.warn(str(finding))

    tell.stage("join", f"joining {labels.height:,} labels to {transactions.height:,} transactions")
    past = known_at(settings.train_until, transactions, labels)
    tell.stage("describe", f"describing {past.transactions.height:,} transactions as a worker sees them")
    replayed = _described(past, rates, keys, settings)
    counted, compared = replayed.accepted, None
    if served is not None:
        replayed, compared = instead_of(replayed, served.of((transactions["occurred_at"] <= past.until).to_numpy()))
        tell.stage("compare", str(compared))
    cut = split(past, replayed.accepted, delay=settings.label_delay, validation=settings.validation)
    columns, left_out = attributes.choose(past.transactions, settings.attributes)
    tell.stage("encode", attributes.in_words(columns, left_out))
    history = attributes.History(past, counted, columns, settings)
    encoder = history.frozen(past.until + _MOMENT)
    folds = _judge_folds(past, replayed, history, learner, settings, tell) if settings.folds else ()
    is_fraud = past.is_fraud[cut.fit]
    vectors = np.hstack([replayed.vectors[cut.fit], history.as_they_occurred()[cut.fit]])
    kept = _Kept.of(cut, past, replayed, history, rates)
    flattered = _is_flattered(cut, settings, tell)

    features = FEATURES + encoder.features

    rows = f"{len(vectors):,} transactions, {int(is_fraud.sum()):,} of them frauds"
    tell.stage("fit", f"fitting {', '.join(settings.learner)} to {rows}")
    fitted = learner.fit(
        Rows(vectors=vectors, is_fraud=is_fraud, features=features),
        Rows(vectors=kept.vectors[kept.choose], is_fraud=kept.is_fraud[kept.choose], features=features),
        settings,
        tell.progress,
    )

    tell.stage("judge", f"judging it by {kept.judge.sum():,} later ones, {kept.frauds(kept.judge):,} of them frauds")
    margins = fitted.margins(kept.vectors)
    calibration = calibrated(margins[kept.choose], kept.is_fraud[kept.choose], settings.calibration, seed=settings.seed)
    scores = probabilities(margins, calibration)
    rival, elsewhere = _champion(champion, settings, past, replayed, counted, cut, keys, tell)
    thresholds = choose(
        scores[kept.choose],
        kept.is_fraud[kept.choose],
        kept.amounts[kept.choose],
        days=(cut.validation_until - cut.validation_from) / timedelta(days=1),
        settings=settings,
        champion=None if rival is None else rival.of(kept.choose),
    )
    judgement = replace(
        judge(
            kept.to_judge_by(cut, past),
            Opinion(name="this model", scores=scores[kept.judge], thresholds=thresholds, knew=flattered),
            None if rival is None else rival.of(kept.judge),
            costs=settings.costs(),
            seed=settings.seed,
        ),
        elsewhere=elsewhere,
    )
    metrics = judgement.model.evaluation.metrics

    tell.stage("export", "exporting it to ONNX, and holding the graph to the learner on every one of them")
    exported = fitted.exported()
    answered = require_parity(exported.graph, kept.vectors, margins, tolerance=fitted.tolerance)
    _require_same_outcomes(scores, probabilities(answered, calibration), thresholds)
    manifest = Manifest(
        format=FORMAT,
        catalogue=DIGEST,
        features=features,
        attributes=encoder.columns,
        left_out=left_out,
        thresholds=thresholds,
        thresholds_by=went_by(settings, rival),
        calibration=calibration,
        learner=_card(fitted, settings),
        trained={
            "transactions": past.transactions.height,
            "known_until": past.until.isoformat(),
            "label_delay_days": settings.label_delay / timedelta(days=1),
            "rows": len(vectors),
            "frauds": int(is_fraud.sum()),
            "from": cut.fit_from.isoformat(),
            "until": (cut.validation_from - settings.label_delay).isoformat(),
            "validation_rows": int(kept.choose.sum()),
            "validation_frauds": kept.frauds(kept.choose),
            "validation_from": cut.validation_from.isoformat(),
            "validation_until": cut.validation_until.isoformat(),
            "chosen_until": _chosen_until(cut, settings).isoformat(),
            "test_rows": int(kept.judge.sum()),
            "test_frauds": kept.frauds(kept.judge),
            "test_from": cut.test_from.isoformat(),
            "test_until": cut.test_until.isoformat(),
            "seed": settings.seed,
            "currency": rates.currency,
            **({} if data is None else {"data": data}),
            **({} if compared is None else _as_served(compared)),
        },
        learnt_from=marks(past.transactions, keys),
        metrics=metrics | (prequential.summary(folds) if folds else {}),
        base=exported.base,
        usual=usual(vectors[is_fraud == 0], features),
    )
    golden = golden_rows(kept.vectors, answered, seed=settings.seed)
    tell.stage("write", f"writing the bundle to {settings.out}")
    path = write(
        settings.out,
        exported=exported,
        manifest=manifest,
        golden_vectors=kept.vectors[golden],
        golden_margins=answered[golden],
        attributes=encoder.attributes,
        evaluation=page(
            manifest,
            judgement,
            importance=fitted.importance(),
            uncalibrated=brier(margins[kept.judge], kept.is_fraud[kept.judge], fitted.uncalibrated),
            odd=validation.odd,
        ),
    )
    _put_in_use(path, manifest, settings, tell)
    return TrainedBundle(
        path=path,
        manifest=manifest,
        metrics=manifest.metrics,
        judgement=judgement,
        validation=validation,
        folds=folds,
    )


def _put_in_use(path: Path, manifest: Manifest, settings: TrainingSettings, tell: Narrator) -> None:
    """Where no model is yet; one that flags nothing only if somebody insists."""
    silent = flags_nothing(manifest.thresholds)
    if silent:
        tell.warn(f"this model flags nothing: {_why_nothing(manifest)}; more frauds to fit would do")
    if (settings.out / CURRENT).exists():
        return
    if silent and not settings.current_anyway:
        tell.warn("it is not put in use, although no model is yet: --current-anyway would do it")
    else:
        make_current(path)


def _why_nothing(manifest: Manifest) -> str:
    by = manifest.thresholds_by
    if by.get("policy") != Policy.PRECISION:
        return f"by the policy {by.get('policy')} it is worth while from no score on"
    return f"from no score on are {by['review_precision']:.0%} of the rows frauds, as --review-precision asks"


def _as_served(compared: Compared) -> dict[str, str | int]:
    return {"vectors": "served", "without_vector": compared.without, "unlike_replayed": compared.unlike}


def _learner(settings: TrainingSettings) -> Learner:
    """Raises WrongSettings, also where there is no such cluster: now, and not after minutes of validating."""
    learner = learner_of(settings)
    if settings.dask:
        with cluster.connected(settings.dask):
            pass
    return learner


def _described(past: KnownPast, rates: Rates, keys: HashKeys, settings: TrainingSettings) -> replay.Replayed:
    if not settings.dask:
        return replay.vectors(past.transactions, past.labels, rates, keys)
    with cluster.connected(settings.dask) as processes:
        return cluster.vectors(processes, past.transactions, past.labels, rates, keys)


def _judge_folds(
    past: KnownPast,
    replayed: replay.Replayed,
    history: attributes.History,
    learner: Learner,
    settings: TrainingSettings,
    tell: Narrator,
) -> tuple[prequential.Judged, ...]:
    described = prequential.Described(
        past=past,
        accepted=replayed.accepted,
        vectors=replayed.vectors,
        encoded=history.as_they_occurred(),
        history=history,
    )
    dates = prequential.cut(described, settings, folds=settings.folds)
    tell.stage("folds", f"fitting and judging the same at {len(dates)} dates, the first of them {dates[0].at:%Y-%m-%d}")
    undivided = [f"{date.at:%Y-%m-%d}" for date in dates if date.chooses is None]
    if undivided:
        tell.warn(
            f"there are too few frauds to choose by some rows and judge by others at {', '.join(undivided)}: the figures of "
            "these dates are too good"
        )
    judged = []
    for done, fold in enumerate(prequential.judge(described, dates, learner, settings), 1):
        judged.append(fold)
        tell.progress(done, len(dates))
    return tuple(judged)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """The rows [n] that are kept from the fit."""

    transactions: pl.DataFrame
    vectors: Vectors
    """[n, features]"""
    is_fraud: npt.NDArray[np.bool_]
    amounts: npt.NDArray[np.int64]
    currency: str
    choose: npt.NDArray[np.bool_]
    judge: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, cut: Split, past: KnownPast, replayed: replay.Replayed, history: attributes.History, rates: Rates
    ) -> _Kept:
        rows = cut.validation | cut.test
        transactions = past.transactions.filter(rows)
        # A model is served with tables that grow old; it is judged so as well.
        encoded = history.frozen(cut.validation_from).encode_table(transactions)
        return cls(
            transactions=transactions,
            vectors=np.hstack([replayed.vectors[rows], encoded]),
            is_fraud=past.is_fraud[rows],
            amounts=replay.amounts(transactions, rates),
            currency=rates.currency,
            choose=cut.validation[rows],
            judge=cut.test[rows],
        )

    def frauds(self, some: npt.NDArray[np.bool_]) -> int:
        return int(self.is_fraud[some].sum())

    def to_judge_by(self, cut: Split, past: KnownPast) -> Kept:
        transactions = self.transactions.filter(self.judge)
        return Kept(
            is_fraud=self.is_fraud[self.judge],
            account=transactions["account_id"],
            occurred_at=transactions["occurred_at"],
            amounts=self.amounts[self.judge],
            currency=self.currency,
            days=(cut.test_until - cut.test_from) / timedelta(days=1),
            segments=_segments(past.transactions, cut.test),
        )


def _chosen_until(cut: Split, settings: TrainingSettings) -> datetime:
    """No later row chose anything of the model."""
    searched = settings.learners_until
    return cut.validation_until if searched is None else max(cut.validation_until, searched)


def _is_flattered(cut: Split, settings: TrainingSettings, tell: Narrator) -> bool:
    """Whether rows that the model is judged by chose something of it; that is said."""
    if not cut.divided:
        tell.warn(
            "there are too few frauds among the newest rows to choose by some and judge by others: the same rows choose the "
            "number of trees, the calibration and the thresholds and judge the model, so that its figures are too good and no "
            "gate goes by them; a longer --validation, or a past with more frauds, would do"
        )
    searched = settings.learners_until is not None and settings.learners_until > cut.test_from
    if searched:
        tell.warn(
            f"the learner's parameters were searched for with what was known on {settings.learners_until:%F %R}, "
            f"and the model is judged by rows from {cut.test_from:%F %R}: its figures are too good and no gate goes by them; "
            "`training tune` with the same --train-until, or a later --train-until here, would do"
        )
    return searched or not cut.divided


def _champion(
    folder: Path | None,
    settings: TrainingSettings,
    past: KnownPast,
    replayed: replay.Replayed,
    counted: npt.NDArray[np.bool_],
    cut: Split,
    keys: HashKeys,
    tell: Narrator,
) -> tuple[Opinion | None, str | None]:
    """What the champion says of the rows that are kept from the fit; None where there is none, or none that can be asked.

    Beside it the name of one that learnt elsewhere, and is no comparison where only dates say that it knew these rows.

    `counted` [n]: the transactions that encodings are learnt from.
    """
    try:
        champion = Contender.in_use(settings.out) if folder is None else Contender.read(folder)
        if champion is None:
            _say_that_nobody_judges(settings, tell)
            return None, None
        champion.require_fitting()
        if champion.knew(cut.test_from) and champion.learnt_elsewhere(past.transactions, keys):
            tell.warn(f"not compared with the champion, {champion.name}: it learnt from other transactions than these")
            _say_that_nobody_judges(settings, tell)
            return None, champion.name
        # As the new one is: with tables that know nothing of these rows.
        then = champion.as_of(cut.validation_from, past, counted, settings.label_delay)
        knew = champion.knew(cut.test_from)
    except UnusableModel as error:
        tell.warn(f"there is no champion to compare with: {error}")
        _say_that_nobody_judges(settings, tell)
        return None, None
    held = cut.validation | cut.test
    opinion = Opinion(
        name=champion.name,
        scores=then.scores(replayed.vectors[held], past.transactions.filter(held)),
        thresholds=champion.manifest.thresholds,
        knew=knew,
    )
    return opinion, None


def _say_that_nobody_judges(settings: TrainingSettings, tell: Narrator) -> None:
    if settings.thresholds_by is Policy.CHAMPION:
        tell.warn("thresholds are by precision: there is no champion to be like")


def _card(fitted: Fitted, settings: TrainingSettings) -> Card:
    if settings.imbalance is Imbalance.NONE:
        return fitted.card()
    return {**fitted.card(), "imbalance": str(settings.imbalance), "imbalance_ratio": settings.imbalance_ratio}


def _require_same_outcomes(ours: Floats, served: Floats, thresholds: Thresholds) -> None:
    """Holds the graph's scores [n] to the learner's where they matter.  Raises ParityBroken."""
    flipped = np.zeros(ours.size, bool)
    for threshold in (thresholds.review, thresholds.decline):
        flipped |= (ours >= threshold) != (served >= threshold)
    if flipped.any():
        raise ParityBroken(
            f"{int(flipped.sum())} of {ours.size} outcomes differ between the ONNX graph and the learner, the first in "
            f"row {int(np.argmax(flipped))}; nothing was written"
        )


def usual(vectors: Vectors, features: Sequence[str]) -> dict[str, float | None]:
    """By feature the median of what is there, a value that occurs, of `vectors` [n, features]; None where most lack it."""
    middles: dict[str, float | None] = {}
    for name, column in zip(features, vectors.T, strict=True):
        known = column[np.isfinite(column)]
        lacking = 2 * known.size < column.size or not known.size
        middles[name] = None if lacking else float(np.quantile(known, 0.5, method="lower"))
    return middles


def golden_rows(vectors: Vectors, margins: Floats, *, seed: int) -> npt.NDArray[np.int64]:
    """Which of the rows [n] go along with the bundle: the ones that lack most, the most suspicious, and any others."""
    lacking = np.argsort(-np.isnan(vectors).sum(axis=1), kind="stable")[: GOLDEN_ROWS // 4]
    suspicious = np.argsort(-margins, kind="stable")[: GOLDEN_ROWS // 4]
    others = np.random.default_rng(seed).permutation(len(vectors))
    chosen = list(dict.fromkeys([*lacking.tolist(), *suspicious.tolist(), *others[: 2 * GOLDEN_ROWS].tolist()]))
    return np.sort(np.array(chosen[:GOLDEN_ROWS], np.int64))


def report(
    trained: TrainedBundle, seconds: dict[str, float], mlflow: Told | None = None, promoted: Changed | None = None
) -> bytes:
    """What `training run --json` prints."""
    champion = trained.judgement.champion
    said = {
        "bundle": trained.path.name,
        "path": str(trained.path),
        "evaluation": str(trained.path / "evaluation.html"),
        "catalogue": trained.manifest.catalogue,
        "thresholds": trained.manifest.thresholds,
        "flags_nothing": flags_nothing(trained.manifest.thresholds),
        "thresholds_by": trained.manifest.thresholds_by,
        "policy": trained.manifest.thresholds.digest(),
        "calibration": trained.manifest.calibration,
        "attributes": trained.manifest.attributes,
        "left_out": trained.manifest.left_out,
        "learner": trained.manifest.learner,
        "trained": trained.manifest.trained,
        "metrics": trained.metrics,
        "knew_some_of_the_rows": trained.judgement.model.knew,
        "intervals": trained.judgement.model.intervals,
        "champion": None if champion is None else _compared(champion, trained.judgement),
        "learnt_elsewhere": trained.judgement.elsewhere,
        "odd": trained.validation.odd,
        "folds": trained.folds,
        "mlflow": mlflow,
        "promoted": promoted,
        "seconds": seconds,
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=2)


def _compared(champion: Judged, judgement: Judgement) -> dict[str, object]:
    return {
        "bundle": champion.name,
        "knew_some_of_the_rows": champion.knew,
        "metrics": champion.evaluation.metrics,
        "intervals": champion.intervals,
        "differences": judgement.differences,
    }


def _segments(transactions: pl.DataFrame, rows: npt.NDArray[np.bool_]) -> dict[str, pl.Series]:
    """By what the rows [n] that judge are told apart on the page."""
    kept = (
        transactions.with_columns((pl.col("occurred_at") - pl.col("occurred_at").min().over("account_id")).alias("age"))
        .filter(rows)
        .select("amount", "channel", "country", "currency", "age")
    )
    edges = sorted({int(kept["amount"].quantile(at, "lower") or 0) for at in (0.25, 0.5, 0.75, 0.95)})
    names = [f"up to {edge:,}" for edge in edges] + [f"over {edges[-1]:,}"]
    return {
        "amount (minor units)": pl.Series(names, dtype=pl.Enum(names)).gather(
            np.searchsorted(edges, kept["amount"].to_numpy())
        ),
        "channel": kept["channel"],
        "country": kept["country"],
        "account": kept.select(
            pl.when(pl.col("age") <= timedelta(0))
            .then(pl.lit("its first transaction"))
            .when(pl.col("age") < _NEW_ACCOUNT)
            .then(pl.lit("known for less than 7 days"))
            .otherwise(pl.lit("known for longer"))
            .alias("account")
        )["account"],
    }
