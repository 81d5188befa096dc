from typing import Any

import pytest
from unisd_operator.planning import rollout, trainer
from unisd_operator.planning.workload import workload
from unisd_operator.settings import Settings

from tests.operator.planning.world import MADE, World, amend, attempt, move, pod, resource, status

ADMITTED = {"QuotaReserved": "True", "Admitted": "True"}


def queued(phase: str) -> Any:
    return resource(status({"prepare": "Succeeded"}, star_1=phase), queueName="research")


def counts(**spec: Any) -> dict[str, dict[str, int]]:
    """Pods of each set, by arm."""
    run = resource(queueName="q", components=[*COMPONENTS], **spec)
    return {
        arm.name: {one["name"]: one["count"] for one in workload(attempt(run, arm.name), arm, True)["spec"]["podSets"]}
        for arm in run.arms
    }


COMPONENTS = ({"name": "star", "preset": "ema"}, {"name": "sft", "preset": "sft"}, {"name": "raw", "preset": "raw"})


def test_a_workload_asks_for_all_that_ever_runs_at_once() -> None:
    found = counts(rollout={"replicas": 3}, trainer={"numNodes": 2})
    both = {"rollout": 3, "trainer": 2}
    assert found == {"star-1": both, "sft-1": both, "raw-1": {"rollout": 3}}
    inside = counts(rollout={"engine": "transformers"}, trainer={"numNodes": 2})
    assert inside == {"star-1": {"trainer": 2}, "sft-1": {"trainer": 2}, "raw-1": {"evaluate": 1}}


def test_its_templates_are_those_that_run() -> None:
    run = queued("Queued")
    (made,) = [item for item in World().plan(run).apply if item["kind"] == "Workload"]
    servers, trainers = made["spec"]["podSets"]
    assert servers["template"] == rollout.pod_template(attempt(run))
    assert trainers["template"] == trainer.pod_template(attempt(run))
    (owner,) = made["metadata"]["ownerReferences"]
    assert owner["controller"] is True
    assert (made["spec"]["queueName"], made["spec"]["active"]) == ("research", True)


def test_a_priority_is_told_where_its_value_is_known() -> None:
    run = resource(queueName="q", trainer={"pod": {"priorityClassName": "high"}})
    arm = run.arms[0]
    assert "priorityClassRef" not in workload(attempt(run), arm, True)["spec"]
    spec = workload(attempt(run, settings=Settings(priorities={"high": 7})), arm, True)["spec"]
    assert spec["priority"] == 7
    assert spec["priorityClassRef"] == {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "high"}


def test_a_queued_component_is_a_workload_and_nothing_else() -> None:
    world = World()
    world.settle(queued("Queued"))
    assert [(child.kind, child.arm) for child in world.observed.children] == [("Workload", "star-1")]


def test_children_carry_no_queue_labels() -> None:
    assert "kueue" not in str([i["metadata"] for i in World().plan(queued("Starting")).apply])


def test_suspension_deactivates_the_live_workload_and_resumption_activates_it() -> None:
    world = World()
    world.settle(queued("Training"))
    (applied,) = world.settle(queued("Suspended"))
    assert (applied["kind"], applied["spec"]["active"]) == ("Workload", False)
    assert world.names("Workload")
    (applied,) = world.turn(queued("Queued")).apply
    assert applied["spec"]["active"] is True


def test_suspension_before_the_queue_makes_no_workload() -> None:
    assert World().plan(queued("Suspended")).apply == ()


@pytest.mark.parametrize("phase", ["Queued", "Suspended"])
def test_an_evicted_workload_is_released_when_its_pods_have_stopped(phase: str) -> None:
    world, run = World(), queued("Training")
    world.settle(run)
    name = "demo-star-1-queue-1"
    world.change("Workload", name, conditions={**ADMITTED, "Evicted": "True"}, reasons={"Evicted": "Preempted"})
    world.add_pods(pod("star-1", "train"))
    after = queued(phase)
    world.turn(after)
    assert world.plan(after).release == (), "its pod still runs"
    world.clear_pods()
    assert [child.name for child in world.plan(after).release] == [name]
    world.change("Workload", name, conditions={"QuotaReserved": "False", "Evicted": "True"})
    assert world.plan(after).release == (), "once"


def test_kueue_is_told_when_all_pods_run() -> None:
    world, run = World(), amend(queued("Training"), "star-1", start_time=MADE)
    world.settle(run)
    world.change("Workload", "demo-star-1-queue-1", conditions=ADMITTED)
    assert len(world.plan(run).pods_ready) == 1
    world.change("Workload", "demo-star-1-queue-1", conditions={**ADMITTED, "PodsReady": "True"})
    assert world.plan(run).pods_ready == ()
    assert world.plan(queued("Starting")).pods_ready == ()


def test_kueue_is_told_of_the_end_when_nothing_runs_any_more() -> None:
    world, run = World(), queued("Evaluating")
    world.settle(run)
    world.change("Workload", "demo-star-1-queue-1", conditions=ADMITTED)
    ended = move(run, queued("Succeeded").status)
    assert world.plan(ended).finish == (), "its servers are still there"
    world.turn(ended)
    assert len(world.plan(ended).finish) == 1
    world.change("Workload", "demo-star-1-queue-1", conditions={**ADMITTED, "Finished": "True"})
    assert world.plan(ended).finish == ()


def test_without_kueue_nothing_is_asked_of_it() -> None:
    world = World()
    world.observed = type(world.observed)(kueue=False)
    assert world.plan(queued("Queued")).apply == ()
