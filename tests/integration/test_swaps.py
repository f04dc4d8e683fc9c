"""Models come and go while workers run: nobody loses a verdict, and what is broken never gets in."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from benchmarks.spoiled import SPOILINGS, spoiled
from benchmarks.swaps import not_by
from deploy.local.stack import LocalStack
from features.catalogue import DIGEST
from features.deployments import Deployments
from features.log import Log
from schemas import installation
from schemas.bundle import CURRENT
from schemas.deployment import Deployment, Kind, Model, Role, challenged, promoted, rolled_back
from schemas.topics import MODELS
from schemas.verdict import Flag, Verdict
from streaming.bundle import LoadedBundle
from tests.fleet import planted
from tests.fleet.fleet import Fleet, Worker
from tests.fleet.messages import Outgoing, a_transaction, message
from tests.fleet.models import LARGE, a_bundle, another_bundle
from tests.integration.waiting import within

EAGER = LARGE // 5
"""A challenger that flags amounts from here on flags three times as many."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three of them, the first one `current`."""
    folder = tmp_path_factory.mktemp("bundles")
    a_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def usual(bundles: Path) -> str:
    return (bundles / CURRENT).resolve().name


@pytest.fixture(scope="module")
def similar(bundles: Path) -> str:
    return another_bundle(bundles, large=LARGE + 1_000).name


@pytest.fixture(scope="module")
def eager(bundles: Path) -> str:
    return another_bundle(bundles, large=EAGER).name


@pytest.fixture
def own(bundles: Path, usual: str, similar: str, eager: str, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    folder = tmp_path / "bundles"
    shutil.copytree(bundles, folder, symlinks=True)
    return folder


def payments(count: int, name: str) -> list[Outgoing]:
    """Of many accounts; of each 30 one is large, and two more only to an eager model."""
    amounts = [2 * LARGE, 3 * EAGER // 2, 2 * EAGER]
    return [
        message(
            a_transaction(
                f"{name} {i}",
                account_id=f"account-{name}-{i % 997}",
                amount=amounts[i % 30] if i % 30 < 3 else 1_000 + i,
            )
        )
        for i in range(count)
    ]


def deploy(fleet: Fleet, update: partial[Deployment]) -> Deployment:
    return Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix)).change(
        lambda before: update(before, at=datetime.now(UTC), by="a test", why="to see")
    )


def promote(bundle: str, *, former: str | None = None, probation: float = 0) -> partial[Deployment]:
    return partial(
        promoted,
        model=Model(bundle=bundle),
        former=None if former is None else Model(bundle=former),
        probation_until=datetime.now(UTC) + timedelta(seconds=probation) if probation else None,
    )


def challenge(bundle: str, share: float) -> partial[Deployment]:
    return partial(challenged, model=Model(bundle=bundle), share=share)


def serves(worker: Worker, bundle: str, role: Role = Role.CHAMPION) -> bool:
    return worker.metric("fraud_bundle_info", bundle=bundle, role=role.value) == 1


def has_taken_up(worker: Worker, number: int) -> bool:
    return worker.metric("fraud_deployment_number") == number


def refuses(worker: Worker, bundle: str) -> bool:
    return worker.metric("fraud_bundle_refused", bundle=bundle) == 1


def refuses_nothing(worker: Worker) -> bool:
    return worker.metric("fraud_bundle_refused") == 0


def deployed(fleet: Fleet) -> Deployment:
    found = Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix)).latest()
    assert found is not None
    return found


def by_bundle(verdicts: list[Verdict]) -> Counter[str]:
    return Counter(verdict.bundle for verdict in verdicts)


def torn(fleet: Fleet, bundles: Path) -> int:
    """How many verdicts have another margin, score, outcome or policy than the bundle that they name gives."""
    by_name: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in fleet.answers.verdicts:
        by_name[verdict.bundle].append(verdict)
    return sum(not_by(LoadedBundle.load_any(bundles / name), some) for name, some in by_name.items())


def test_a_promoted_bundle_judges_from_the_next_batch_on_and_comes_back_at_the_next_start(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start()
        fleet.send(payments(300, "before"))
        fleet.wait_for_verdicts(300)
        assert by_bundle(fleet.answers.verdicts) == {usual: 300}

        deploy(fleet, promote(similar, former=usual))
        worker.wait_until(lambda: serves(worker, similar))
        assert worker.metric("fraud_swaps_total") == 2
        assert worker.metric("fraud_deployment_number") == 1
        fleet.send(payments(300, "after"))
        fleet.wait_for_verdicts(600)
        assert by_bundle(fleet.answers.verdicts[300:]) == {similar: 300}
        (said,) = Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix)).serving()
        assert (said.champion, said.deployment, said.catalogue, said.refused) == (similar, 1, DIGEST, ())
        assert (own / CURRENT).resolve().name == similar, "a worker that starts without Kafka's word begins with this"

        assert worker.stop() == 0
        assert Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix)).serving() == []
        again = fleet.start(bundle=own / usual)
        assert serves(again, similar)
        fleet.check(verdicts=600)


def test_swaps_under_way_lose_nothing_and_tear_no_batch(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        workers = [fleet.start(slot) for slot in range(2)]
        for turn in range(6):
            fleet.send(payments(400, f"turn {turn}"))
            deploy(fleet, promote(usual if turn % 2 else similar))
            for worker in workers:
                worker.wait_until(partial(has_taken_up, worker, turn + 1))
        fleet.wait_for_verdicts(2_400)
        fleet.check(verdicts=2_400)
        assert by_bundle(fleet.answers.verdicts).keys() == {usual, similar}
        assert torn(fleet, own) == 0


def test_a_challenger_scores_along_and_judges_its_share_of_the_accounts(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start()
        deploy(fleet, promote(usual))
        deploy(fleet, challenge(similar, 0.0))
        worker.wait_until(lambda: serves(worker, similar, Role.CHALLENGER))
        fleet.send(payments(400, "shadow"))
        fleet.wait_for_verdicts(400)
        assert {(v.bundle, v.shadow and v.shadow.bundle, v.flags) for v in fleet.answers.verdicts} == {
            (usual, similar, ())
        }

        deploy(fleet, challenge(similar, 0.3))
        worker.wait_until(lambda: worker.metric("fraud_deployment_number") == 3)
        fleet.send(payments(1_994, "canary"))
        fleet.wait_for_verdicts(2_394)
        judged = fleet.answers.verdicts[400:]
        canary = {v.account_id for v in judged if v.bundle == similar}
        assert all((Flag.CANARY in v.flags) == (v.account_id in canary) for v in judged), "an account has one judge"
        assert all(v.shadow is not None and {v.bundle, v.shadow.bundle} == {usual, similar} for v in judged)
        assert 0.2 < len(canary) / 997 < 0.4
        worker.wait_until(
            lambda: worker.metric("fraud_canary_transactions_total") == sum(v.bundle == similar for v in judged)
        )
        fleet.check(verdicts=2_394)


def test_a_challenger_that_alerts_three_times_as_often_is_sent_back(
    stack: LocalStack, prefix: str, own: Path, usual: str, eager: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start()
        deploy(fleet, promote(usual))
        deploy(fleet, challenge(eager, 0.1))
        worker.wait_until(lambda: serves(worker, eager, Role.CHALLENGER))
        fleet.send(payments(6_000, "attack"))
        fleet.wait_for_verdicts(6_000)
        worker.wait_until(lambda: not serves(worker, eager, Role.CHALLENGER))
        worker.wait_until(partial(has_taken_up, worker, 3))

        after = deployed(fleet)
        assert (after.champion.bundle, after.challenger, after.share) == (usual, None, 0)
        assert after.changes[-1].kind is Kind.ROLLED_BACK
        assert "times as many" in after.changes[-1].why
        assert worker.metric("fraud_sent_back_total", bundle=eager, limit="alerts") == 1
        fleet.check(verdicts=6_000)


def test_a_new_champion_on_probation_goes_back_too(
    stack: LocalStack, prefix: str, own: Path, usual: str, eager: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        workers = [fleet.start(slot) for slot in range(2)]
        deploy(fleet, promote(eager, former=usual, probation=600))
        for worker in workers:
            worker.wait_until(partial(serves, worker, usual, Role.FORMER))
        fleet.send(payments(12_000, "trial"))
        fleet.wait_for_verdicts(12_000)
        for worker in workers:
            worker.wait_until(partial(serves, worker, usual))
            worker.wait_until(partial(has_taken_up, worker, 2))
        after = deployed(fleet)
        assert (after.number, after.champion.bundle, after.former) == (2, usual, None), "one rollback, whoever saw it"
        fleet.check(verdicts=12_000)


def test_a_probation_ends_by_itself(stack: LocalStack, prefix: str, own: Path, usual: str, similar: str) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start()
        deploy(fleet, promote(similar, former=usual, probation=20))
        worker.wait_until(lambda: serves(worker, usual, Role.FORMER))
        worker.wait_until(lambda: not serves(worker, usual, Role.FORMER))
        assert serves(worker, similar)
        assert deployed(fleet).number == 1


def test_a_bundle_that_fails_on_real_traffic_judges_nobody(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    """A challenger with a share, and a champion on probation: the other one's verdict stands."""
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start(plant=partial(planted.no_numbers_from, similar))
        deploy(fleet, promote(usual))
        for number, change in ((2, challenge(similar, 0.5)), (4, promote(similar, probation=600))):
            deploy(fleet, change)
            worker.wait_until(partial(has_taken_up, worker, number))
            fleet.send(payments(50, f"change {number}"))
            worker.wait_until(partial(has_taken_up, worker, number + 1))
            assert "margins are no numbers" in deployed(fleet).changes[-1].why
        fleet.wait_for_verdicts(100)
        assert by_bundle(fleet.answers.verdicts) == {usual: 100}
        assert worker.metric("fraud_sent_back_total", bundle=similar, limit="failure") == 2
        fleet.check(verdicts=100)


def test_one_that_only_scores_along_and_fails_is_dropped_and_nobody_else_goes(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    """The former champion, beside a new one on probation."""
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start(plant=partial(planted.no_numbers_from, usual))
        deploy(fleet, promote(similar, former=usual, probation=600))
        worker.wait_until(partial(serves, worker, usual, Role.FORMER))
        fleet.send(payments(50, "probation"))
        worker.wait_until(lambda: not serves(worker, usual, Role.FORMER))
        fleet.wait_for_verdicts(50)
        assert by_bundle(fleet.answers.verdicts) == {similar: 50}
        assert deployed(fleet).champion.bundle == similar
        worker.wait_until(lambda: worker.metric("fraud_bundle_failures_total", bundle=usual) >= 1)
        fleet.check(verdicts=50)


def test_a_champion_that_fails_beside_a_challenger_is_not_the_challengers_fault(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start(plant=partial(planted.no_numbers_from, usual))
        deploy(fleet, promote(usual))
        deploy(fleet, challenge(similar, 0.0))
        worker.wait_until(partial(serves, worker, similar, Role.CHALLENGER))
        fleet.send(payments(50, "rescued"))
        fleet.wait_for_verdicts(50)
        assert {(v.bundle, v.flags) for v in fleet.answers.verdicts} == {(similar, (Flag.CANARY,))}
        assert serves(worker, similar, Role.CHALLENGER), "somebody has to look at the champion"
        worker.wait_until(lambda: worker.metric("fraud_bundle_failures_total", bundle=usual) >= 1)
        fleet.check(verdicts=50)


def test_a_link_that_names_nothing_is_mended(
    stack: LocalStack, prefix: str, own: Path, usual: str, similar: str
) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        deploy(fleet, promote(similar))
        (own / CURRENT).unlink()
        (own / CURRENT).symlink_to("tidied-away")
        assert serves(fleet.start(), similar)
        assert (own / CURRENT).resolve().name == similar


def test_where_neither_is_here_the_former_champion_judges(
    stack: LocalStack, prefix: str, own: Path, similar: str, tmp_path: Path
) -> None:
    with Fleet(stack, prefix, own / CURRENT, mlflow_uri=f"sqlite:///{tmp_path}/nowhere.db") as fleet:
        deploy(fleet, promote("0123456789abcdef", former=similar, probation=60))
        (own / CURRENT).unlink()
        assert serves(fleet.start(), similar)


def test_a_broken_bundle_never_gets_in_and_the_worker_says_why(
    stack: LocalStack, prefix: str, own: Path, usual: str, tmp_path: Path
) -> None:
    with Fleet(stack, prefix, own / CURRENT, mlflow_uri=f"sqlite:///{tmp_path}/nowhere.db") as fleet:
        worker = fleet.start()
        deploy(fleet, promote(usual))
        for number, spoiling in enumerate(SPOILINGS):
            name = spoiled(own / usual, own, spoiling)
            deploy(fleet, promote(name))
            worker.wait_until(partial(refuses, worker, name))
            (said,) = Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix)).serving()
            assert (said.champion, [one.bundle for one in said.refused]) == (usual, [name]), spoiling.name
            assert spoiling.says in said.refused[0].why
            assert any(name in line and spoiling.says in line for line in worker.log.lines), spoiling.name
            fleet.send(payments(10, spoiling.name))
            fleet.wait_for_verdicts(10 * (number + 1))

            deploy(fleet, partial(rolled_back, bundle=name))
            worker.wait_until(partial(refuses_nothing, worker))
        assert set(by_bundle(fleet.answers.verdicts)) == {usual}


def test_a_worker_starts_with_its_last_good_bundle_where_the_deployed_one_cant_be_had(
    stack: LocalStack, prefix: str, own: Path, usual: str, tmp_path: Path
) -> None:
    with Fleet(stack, prefix, own / CURRENT, mlflow_uri=f"sqlite:///{tmp_path}/nowhere.db") as fleet:
        deploy(fleet, promote("0123456789abcdef"))
        worker = fleet.start()
        assert serves(worker, usual)
        worker.wait_until(lambda: worker.metric("fraud_bundle_refused", bundle="0123456789abcdef") == 1)
        fleet.send(payments(50, "all the same"))
        fleet.wait_for_verdicts(50)
        assert by_bundle(fleet.answers.verdicts) == {usual: 50}


def test_two_who_change_at_once_take_turns(stack: LocalStack, prefix: str) -> None:
    """Whoever is second is asked again about what the first has made."""
    stack.create_topics(prefix)
    with Fleet(stack, prefix, Path("nowhere"), make_topics=False) as fleet:
        deployments = Deployments(fleet.settings, installation.model(fleet.settings.topic_prefix))
        seen: list[int] = []

        def overtaken(before: Deployment | None) -> Deployment:
            seen.append(0 if before is None else before.number)
            if len(seen) == 1:
                deploy(fleet, promote("a" * 16))
            return promoted(before, Model(bundle="b" * 16), at=datetime.now(UTC), by="a test", why="late")

        after = deployments.change(overtaken)
        assert seen == [0, 1]
        assert (after.number, after.former) == (2, Model(bundle="a" * 16))
        assert deployments.latest() == after
        with Log(fleet.settings) as log:
            low, high = log.bounds(MODELS, 0)
            values = [record.value for some in log.read(MODELS, 0, low, high) for record in some]
        assert [json.loads(value or b"")["number"] for value in values] == [1, 2]


def test_what_is_no_deployment_is_passed_over(stack: LocalStack, prefix: str, own: Path, usual: str) -> None:
    with Fleet(stack, prefix, own / CURRENT) as fleet:
        worker = fleet.start()
        fleet.producer.produce(fleet.settings.topic(MODELS), value=b"{}", key=installation.model(prefix).encode())
        fleet.producer.flush(5)
        within(60, lambda: any("is no deployment" in line for line in worker.log.lines))
        deploy(fleet, promote(usual))
        worker.wait_until(lambda: worker.metric("fraud_deployment_number") == 1)
        assert msgspec.json.encode(deployed(fleet).champion) == msgspec.json.encode(Model(bundle=usual))
