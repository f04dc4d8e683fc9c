"""What is deployed, changed through the gates: the topic, `current` and whoever serves it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.bundle import make_current
from schemas.deployment import Deployment, Kind, Model, Serving, rolled_back, withdrawn
from schemas.deployment import promoted as with_champion
from schemas.errors import LogUnavailable, UnusableModel
from tests.fleet.models import a_bundle
from tests.unit.deployed import FakeDeployments, altered, with_manifest
from training import deploying
from training.deploying import Changed, Deployer, Found
from training.errors import Refused
from training.gate import Gate
from training.gate_limits import Limits
from training.narration import Silent

PASSED = (Gate(name="cost", passed=True, said="as little"),)
FAILED = (Gate(name="cost", passed=False, said="+9 %, the limit is +5 %"),)
PROBATION = timedelta(minutes=10)
NO_PROBATION = timedelta(0)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three bundles, the first of them current."""
    out = tmp_path_factory.mktemp("made")
    first = a_bundle(out).resolve()
    for review in (0.4, 0.6):
        altered(first, out, with_manifest(thresholds={"review": review, "decline": 0.9}))
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundles", symlinks=True))


def bundles_of(out: Path) -> list[str]:
    """The current one first."""
    current = (out / "current").resolve().name
    return [current, *sorted({folder.name for folder in out.iterdir()} - {current, "current"})]


def deployer(out: Path, deployments: FakeDeployments) -> Deployer:
    return Deployer(deployments, None, out, Silent())


def promoted(
    on: Deployer, bundle: str, gates: tuple[Gate, ...] = PASSED, *, force: str | None = None,
    probation: timedelta = PROBATION,
) -> Changed:  # fmt: skip
    return on.promote(on.find(bundle), gates, judged=on.champion(), probation=probation, force=force)


def by_somebody(change: Callable[..., Deployment], *which: object) -> Callable[[Deployment | None], Deployment]:
    """A change that another person makes meanwhile."""
    return lambda before: change(before, *which, at=NOON, by="somebody", why="in a hurry")


def test_the_first_promotion_keeps_what_was_current_for_a_rollback(out: Path) -> None:
    old, new, _ = bundles_of(out)
    topic = FakeDeployments("fraud-scorer-0")
    changed = promoted(deployer(out, topic), new)

    assert topic.now is not None
    assert topic.now.champion.bundle == new
    assert topic.now.former is not None
    assert topic.now.former.bundle == old
    assert topic.now.probation_until is not None
    assert abs(topic.now.probation_until - datetime.now(UTC) - PROBATION) < timedelta(seconds=5)
    assert topic.now.changes[-1].by.endswith(deploying.whoever())
    assert (out / "current").resolve().name == new
    assert (changed.deployment, changed.champion) == (1, new)
    assert [(one.worker, one.serves) for one in changed.workers] == [("fraud-scorer-0", True)]


def test_a_gate_that_was_not_passed_changes_nothing(out: Path) -> None:
    old, new, _ = bundles_of(out)
    topic = FakeDeployments("fraud-scorer-0")
    changed = promoted(deployer(out, topic), new, FAILED)

    assert changed.refused
    assert topic.now is None
    assert (out / "current").resolve().name == old


def test_whoever_insists_leaves_a_record(out: Path) -> None:
    _, new, _ = bundles_of(out)
    topic = FakeDeployments()
    changed = promoted(deployer(out, topic), new, FAILED, force="the fraud of today is another")

    assert changed.forced
    assert not changed.refused
    assert topic.now is not None
    change = topic.now.changes[-1]
    assert change.forced
    assert change.why == "the fraud of today is another (past its gates: cost: +9 %, the limit is +5 %)"


def test_nothing_is_forced_where_every_gate_was_passed(out: Path) -> None:
    topic = FakeDeployments()
    assert not promoted(deployer(out, topic), bundles_of(out)[1], force="to be sure").forced
    assert topic.now is not None
    assert not topic.now.changes[-1].forced


def test_the_champion_is_not_promoted_again(out: Path) -> None:
    old, new, _ = bundles_of(out)
    topic = FakeDeployments()
    on = deployer(out, topic)
    assert on.already(on.find(new)) is None
    promoted(on, new)
    make_current(out / old)

    changed = on.already(on.find(new))
    assert changed is not None
    assert changed.deployment == 1
    assert not changed.refused
    assert (out / "current").resolve().name == new


def test_a_rollback_sends_the_challenger_back_and_then_the_champion(out: Path) -> None:
    old, new, third = bundles_of(out)
    topic = FakeDeployments("fraud-scorer-0")
    on = deployer(out, topic)
    promoted(on, new, probation=NO_PROBATION)
    tried = on.challenge(on.find(third), PASSED, share=0.1, force=None)
    assert (tried.champion, tried.challenger) == (new, third)
    assert tried.workers[0].serves

    first = on.roll_back("it flags everybody")
    assert (first.bundle, first.champion, first.challenger) == (third, new, None)
    assert (out / "current").resolve().name == new
    second = on.roll_back("so does this one")
    assert (second.bundle, second.champion) == (new, old)
    assert (out / "current").resolve().name == old
    assert topic.now is not None
    assert [change.kind for change in topic.now.changes[-2:]] == [Kind.ROLLED_BACK] * 2
    with pytest.raises(Refused, match="no champion before"):
        on.roll_back("and this one")


def test_what_was_sent_back_needs_somebody_who_insists(out: Path) -> None:
    _, new, _ = bundles_of(out)
    on = deployer(out, FakeDeployments())
    promoted(on, new)
    on.roll_back("it flags everybody")

    assert promoted(on, new).refused
    assert promoted(on, new, force="mended").forced


def test_a_challenger_needs_a_champion_and_can_be_withdrawn(out: Path) -> None:
    _, new, third = bundles_of(out)
    on = deployer(out, FakeDeployments())
    with pytest.raises(Refused, match="nothing was ever deployed"):
        on.challenge(on.find(third), PASSED, share=0.1, force=None)
    with pytest.raises(Refused, match="nothing was ever deployed"):
        on.withdraw("enough")
    with pytest.raises(Refused, match="nothing was ever deployed"):
        on.roll_back("back")
    promoted(on, new, probation=NO_PROBATION)
    with pytest.raises(Refused, match="can't be its own challenger"):
        on.challenge(on.find(new), PASSED, share=0.1, force=None)
    with pytest.raises(Refused, match="no challenger to withdraw"):
        on.withdraw("enough")

    assert on.challenge(on.find(third), FAILED, share=0.1, force=None).refused
    on.challenge(on.find(third), PASSED, share=0.1, force=None)
    assert on.withdraw("enough").challenger is None


def test_a_rollback_names_the_one_that_is_meant(out: Path) -> None:
    old, new, third = bundles_of(out)
    on = deployer(out, FakeDeployments())
    promoted(on, new, probation=NO_PROBATION)
    on.challenge(on.find(third), PASSED, share=0.1, force=None)

    changed = on.roll_back("it flags everybody", new)
    assert (changed.bundle, changed.champion, changed.challenger) == (new, old, third)
    with pytest.raises(Refused, match=f"bundle {new} is gone already: .* sent {new} back on .*: it flags everybody"):
        on.roll_back("again", new)
    with pytest.raises(Refused, match="is neither champion nor challenger"):
        on.roll_back("who?", "0" * 16)


def test_who_went_meanwhile_is_not_sent_back_nor_is_anybody_else(out: Path) -> None:
    _, new, third = bundles_of(out)
    topic = FakeDeployments()
    on = deployer(out, topic)
    promoted(on, new, probation=NO_PROBATION)
    on.challenge(on.find(third), PASSED, share=0.1, force=None)
    topic.meanwhile = [by_somebody(withdrawn)]
    with pytest.raises(
        Refused, match=f"{third} is gone already: somebody withdrew {third} on 2026-03-01 at 12:00: in a"
    ):
        on.roll_back("it flags everybody")

    assert topic.now is not None
    assert topic.now.champion.bundle == new
    topic.meanwhile = [by_somebody(rolled_back, new)]
    with pytest.raises(Refused, match=f"{new} is gone already: somebody sent {new} back"):
        on.roll_back("it flags everybody")
    on.challenge(on.find(third), PASSED, share=0.1, force=None)
    topic.meanwhile = [by_somebody(withdrawn), by_somebody(with_champion, Model(bundle=new))]
    with pytest.raises(Refused, match=f"{third} is gone already: somebody withdrew"):
        on.roll_back("it flags everybody")


def test_a_lost_acknowledgement_sends_nobody_else_back(out: Path) -> None:
    _, new, third = bundles_of(out)
    topic = FakeDeployments("fraud-scorer-0")
    on = deployer(out, topic)
    promoted(on, new, probation=NO_PROBATION)
    on.challenge(on.find(third), PASSED, share=0.1, force=None)
    topic.loses = True

    changed = on.roll_back("it flags everybody")
    assert (changed.bundle, changed.deployment, changed.champion, changed.challenger) == (third, 3, new, None)
    assert topic.now is not None
    assert topic.now.number == 3


@pytest.mark.parametrize("gives_up", [None, LogUnavailable("`models` can't be changed: timed out")])
def test_what_was_changed_is_said_to_be_changed_though_others_followed(out: Path, gives_up: Exception | None) -> None:
    old, new, third = bundles_of(out)
    topic = FakeDeployments()
    on = deployer(out, topic)
    topic.loses, topic.gives_up = True, gives_up
    topic.meanwhile = [by_somebody(with_champion, Model(bundle=third))]

    changed = promoted(on, new)
    assert (changed.bundle, changed.deployment, changed.champion, changed.refused) == (new, 2, third, False)
    assert topic.now is not None
    assert [change.bundle for change in topic.now.changes] == [new, third]
    assert topic.now.changes[0].instead_of == old


def test_what_was_not_changed_is_not_said_to_be(out: Path) -> None:
    _, new, _ = bundles_of(out)
    topic = FakeDeployments()
    topic.loses, topic.gives_up = True, LogUnavailable("`models` can't be changed: timed out")
    topic.meanwhile = [lambda _: with_champion(None, Model(bundle="0" * 16), at=NOON, by="me", why="all anew")]
    with pytest.raises(LogUnavailable, match="timed out"):
        promoted(deployer(out, topic), new)


def test_who_was_better_than_one_champion_is_not_promoted_over_another(out: Path) -> None:
    _, new, third = bundles_of(out)
    topic = FakeDeployments()
    on = deployer(out, topic)
    topic.meanwhile = [by_somebody(with_champion, Model(bundle=third))]

    changed = promoted(on, new)
    assert changed.refused
    assert topic.now is not None
    assert (topic.now.champion.bundle, topic.now.number) == (third, 1)
    said = f"the champion is now {third}, promoted by somebody on 2026-03-01 at 12:00: judge again"
    assert str(changed.gates[-1]) == f"champion: {said}"

    topic.meanwhile = [by_somebody(with_champion, Model(bundle=new)), by_somebody(rolled_back, new)]
    assert not promoted(on, new, force="it is urgent").refused
    assert topic.now.changes[-1].forced


def test_who_comes_back_as_the_champion_is_said_to(out: Path) -> None:
    old, new, third = bundles_of(out)
    topic = FakeDeployments()
    on = deployer(out, topic)
    promoted(on, new)
    topic.meanwhile = [by_somebody(rolled_back, new)]

    assert f"the champion is now {old}, brought back by somebody" in promoted(on, third).gates[-1].said


@pytest.mark.parametrize("challenges", [False, True])
def test_who_is_sent_back_while_the_gates_are_judged_does_not_get_in(out: Path, challenges: bool) -> None:
    _, new, third = bundles_of(out)
    topic = FakeDeployments()
    on = deployer(out, topic)
    promoted(on, third, probation=NO_PROBATION)
    on.challenge(on.find(new), PASSED, share=0.0, force=None)
    topic.meanwhile = [by_somebody(rolled_back, new)]

    found = on.find(new)
    changed = on.challenge(found, PASSED, share=0.5, force=None) if challenges else promoted(on, new)
    assert changed.refused
    assert "somebody sent it back" in {gate.name: gate for gate in changed.gates}["sent-back"].said
    assert topic.now is not None
    assert topic.now.challenger is None


def test_nobody_challenges_a_champion_on_probation_unless_somebody_insists(out: Path) -> None:
    _, new, third = bundles_of(out)
    on = deployer(out, FakeDeployments())
    promoted(on, new)

    changed = on.challenge(on.find(third), PASSED, share=0.1, force=None)
    assert changed.refused
    assert "the champion is on probation until" in changed.gates[-1].said
    assert on.challenge(on.find(third), PASSED, share=0.1, force="now").forced


def test_current_stays_where_all_workers_refuse_the_bundle(out: Path) -> None:
    old, new, _ = bundles_of(out)
    promoted(deployer(out, FakeDeployments("fraud-scorer-0", "fraud-scorer-1", refusing={new: "no room"})), new)

    assert (out / "current").resolve().name == old


def test_current_waits_for_a_worker_to_judge_by_the_new_champion(out: Path) -> None:
    old, new, _ = bundles_of(out)
    pointed: list[str] = []

    class Watched(FakeDeployments):
        def serving(self) -> list[Serving]:
            pointed.append((out / "current").resolve().name)
            return super().serving()

    promoted(deployer(out, Watched("fraud-scorer-0")), new)
    assert set(pointed) == {old}
    assert (out / "current").resolve().name == new


def test_a_worker_that_refuses_the_bundle_is_named_with_its_reason(out: Path) -> None:
    _, new, _ = bundles_of(out)
    changed = promoted(deployer(out, FakeDeployments("fraud-scorer-1", refusing={new: "no room on the disk"})), new)

    [worker] = changed.workers
    assert not worker.serves
    assert worker.why == f"{new}: no room on the disk"


def test_a_worker_that_says_nothing_is_not_waited_for_any_longer(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "_PATIENCE", 0.0)
    topic = FakeDeployments("fraud-scorer-0")
    topic.asleep = True
    old, new, _ = bundles_of(out)
    [worker] = promoted(deployer(out, topic), new).workers

    assert (out / "current").resolve().name == old
    assert not worker.serves
    assert "has not taken it up" in (worker.why or "")


def test_a_worker_that_was_killed_is_not_waited_for(out: Path) -> None:
    topic = FakeDeployments("fraud-scorer-0")
    topic.asleep = True
    topic.said_at = datetime.now(UTC) - timedelta(minutes=2)

    assert promoted(deployer(out, topic), bundles_of(out)[1]).workers == ()


def test_a_bundle_is_found_by_its_digest_and_by_its_folder(out: Path, tmp_path: Path) -> None:
    old, new, _ = bundles_of(out)
    on = deployer(out, FakeDeployments())

    assert on.find(new) == on.find(str(out / new))
    assert on.find(new).folder == out / new
    assert on.find(str(out / "current")).model.bundle == old
    with pytest.raises(UnusableModel, match="does not lie in"):
        on.find(str(shutil.copytree(out / new, tmp_path / "elsewhere" / new)))
    for unknown in ("0" * 16, "7", "champion", str(tmp_path / "nowhere")):
        with pytest.raises(UnusableModel, match="there is no bundle"):
            on.find(unknown)


def test_what_cant_be_served_is_found_out_before(out: Path) -> None:
    old, new, _ = bundles_of(out)
    on = deployer(out, FakeDeployments("fraud-scorer-0", catalogue="e" * 16))
    gates = {gate.name: gate for gate in on.service_gates(on.find(new), Limits())}

    assert gates["parity"].passed
    assert "fraud-scorer-0 has eeeeeeeeeeeeeeee" in gates["catalogue"].said
    (out / new / "model.onnx").write_bytes(b"")
    with pytest.raises(UnusableModel, match="changed or cut short"):
        on.service_gates(Found(folder=out / new, model=on.find(old).model), Limits())
