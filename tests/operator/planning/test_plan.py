"""Phases to objects, attempt by attempt, against a cluster that holds what was applied."""

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from unisd_operator.api.status import Status, Waiting
from unisd_operator.observed import Observed
from unisd_operator.settings import PodDisruptionBudgets, Settings

from tests.operator.planning.world import EXAMPLES, MADE, World, amend, move, pod, resource, status
from unisd.config.load import load_cluster_run

PREPARED = {"prepare": "Succeeded"}
ARMS = [{"name": "star", "preset": "unisd_star"}, {"name": "sft", "preset": "sft"}, {"name": "raw", "preset": "raw"}]


def run_of(stages: Any = None, settings: Any = None, **phases: str) -> Any:
    spec = {"components": ARMS, **(settings or {})}
    return resource(status(stages or PREPARED, **phases), **spec)


def kinds(world: World, arm: str | None) -> dict[str, set[str]]:
    """Roles of an arm's children by kind."""
    found: dict[str, set[str]] = {}
    for child in world.observed.of(arm):
        found.setdefault(child.kind, set()).add(child.role)
    return found


def finished(world: World, *names: str) -> None:
    for name in names:
        world.change("Job", name, succeeded=True)


# -- what each phase has


def test_nothing_exists_before_a_run_begins() -> None:
    world = World()
    world.settle(run_of({"prepare": "Pending"}, star_1="Pending"))
    assert world.observed.children == ()


def test_preparation_is_a_job_on_the_claim() -> None:
    world = World()
    world.settle(run_of({"prepare": "Starting"}))
    assert kinds(world, None) == {
        "PersistentVolumeClaim": {"storage"},
        "ConfigMap": {"config"},
        "NetworkPolicy": {"prepare"},
        "Job": {"prepare"},
    }


def test_contexts_have_servers_of_their_own_that_are_freed_afterwards() -> None:
    world = World()
    world.settle(run_of({**PREPARED, "contexts": "Running"}))
    assert kinds(world, None)["Deployment"] == {"rollout"}
    assert world.secrets == {"demo-contexts-rollout-1"}
    finished(world, "demo-contexts-1")
    world.settle(run_of({**PREPARED, "contexts": "Succeeded"}))
    assert world.names("Deployment") == set()
    assert world.names("Job") == {"demo-contexts-1"}
    assert world.secrets == set()


def test_training_and_its_servers_are_made_in_one_turn() -> None:
    world = World()
    found = world.turn(run_of(star_1="Starting"))
    made = {(item["kind"], item["metadata"]["name"]) for item in found.apply}
    assert {("Deployment", "demo-star-1-rollout-1"), ("Job", "demo-star-1-train-1")} <= made
    services = {name for kind, name in made if kind == "Service"}
    assert services == {"demo-star-1-rollout-1", "demo-star-1-policy-1", "demo-star-1-train-1"}
    assert kinds(world, "star-1")["NetworkPolicy"] == {"rollout", "train"}


def test_what_pods_need_is_applied_before_them() -> None:
    order = [item["kind"] for item in World().plan(run_of({"prepare": "Starting"}, star_1="Starting")).apply]
    assert order.index("PersistentVolumeClaim") == 0
    for kind in ("ConfigMap", "Secret", "NetworkPolicy", "Service"):
        last = len(order) - 1 - order[::-1].index(kind)
        assert last < min(order.index("Deployment"), order.index("Job"))


@pytest.mark.parametrize("phase", ["Starting", "Training"])
def test_sft_trains_without_servers(phase: str) -> None:
    world = World()
    world.settle(run_of(sft_1=phase))
    assert kinds(world, "sft-1") == {
        "ConfigMap": {"config"},
        "NetworkPolicy": {"train"},
        "Service": {"train"},
        "Job": {"train"},
    }
    assert world.secrets == set()


def test_servers_that_trained_evaluate() -> None:
    world = World()
    world.settle(run_of(star_1="Training"))
    finished(world, "demo-star-1-train-1")
    found = world.turn(run_of(star_1="Evaluating"))
    assert "Deployment" not in {item["kind"] for item in found.apply}
    assert {child.name for child in found.delete} == {"demo-star-1-train-1"}, "service and policy of the training"
    assert {child.kind for child in found.delete} == {"Service", "NetworkPolicy"}
    assert world.names("Job") == {"demo-star-1-train-1", "demo-star-1-evaluate-1"}


@pytest.mark.parametrize("arm", ["sft", "raw"])
def test_others_get_servers_for_evaluation(arm: str) -> None:
    world = World()
    world.settle(run_of(**{f"{arm}_1": "Evaluating"}))
    assert kinds(world, f"{arm}-1")["Deployment"] == {"rollout"}
    assert world.secrets == {f"demo-{arm}-1-rollout-1"}


def test_who_samples_inside_the_trainer_has_no_servers() -> None:
    for phase in ("Training", "Evaluating"):
        world = World()
        full = {"rollout": {"engine": "transformers"}, "training": {"fineTuning": "full"}}
        world.settle(run_of(settings=full, star_1=phase, raw_1="Evaluating"))
        assert world.names("Deployment") == set()
        assert world.secrets == set()


def test_a_finished_component_keeps_manifest_and_jobs_and_nothing_that_runs() -> None:
    world = World()
    world.settle(run_of(star_1="Training"))
    finished(world, "demo-star-1-train-1")
    world.settle(run_of(star_1="Evaluating"))
    finished(world, "demo-star-1-evaluate-1")
    world.settle(run_of(star_1="Succeeded"))
    assert kinds(world, "star-1") == {"ConfigMap": {"config"}, "Job": {"train", "evaluate"}}
    assert world.secrets == set()


def test_a_failed_component_keeps_no_job_that_still_runs() -> None:
    world = World()
    world.settle(run_of(star_1="Training"))
    world.settle(run_of(star_1="Failed"))
    assert kinds(world, "star-1") == {"ConfigMap": {"config"}}


def test_suspension_keeps_manifest_and_claim() -> None:
    world = World()
    world.settle(run_of({"prepare": "Starting"}))
    world.settle(run_of(star_1="Training"))
    world.settle(run_of(star_1="Suspended"))
    assert kinds(world, "star-1") == {"ConfigMap": {"config"}}
    assert world.names("PersistentVolumeClaim") == {"demo"}
    world.settle(run_of(star_1="Starting"))
    assert world.names("Job") >= {"demo-star-1-train-1"}


def test_results_that_nobody_read_are_read_again() -> None:
    world, run = World(), run_of(star_1="Evaluating")
    world.settle(run)
    finished(world, "demo-star-1-evaluate-1")
    unread = amend(run, "star-1", waiting=Waiting(reason="ResultsUnread"))
    applied = world.turn(unread).apply
    assert [(item["kind"], item["metadata"]["name"]) for item in applied] == [
        ("NetworkPolicy", "demo-star-1-results-1"),
        ("Job", "demo-star-1-results-1"),
    ]


def test_generated_code_has_a_grader_while_somebody_may_ask() -> None:
    code = {"task": {"name": "mbpp"}}
    cases = [
        (code, {**PREPARED, "contexts": "Running"}, {}, True),
        (code, {"prepare": "Running"}, {"star_1": "Pending"}, False),
        (code, PREPARED, {"star_1": "Training"}, True),
        (code, PREPARED, {"star_1": "Evaluating"}, True),
        (code, PREPARED, {"star_1": "Succeeded"}, False),
        ({}, PREPARED, {"star_1": "Evaluating"}, False),
    ]
    for settings, stages, phases, there in cases:
        world = World()
        world.settle(run_of(stages, settings, **phases))
        assert ("demo-grader-1" in world.names("Deployment")) == there, (settings, phases)


def test_budgets_are_made_where_the_installation_wants_them() -> None:
    world = World(settings=Settings(pod_disruption_budgets=PodDisruptionBudgets(enabled=True)))
    blocks = {"trainer": {"numNodes": 2}, "rollout": {"replicas": 3}}
    found = world.turn(run_of(settings=blocks, star_1="Training"))
    budgets = {
        item["spec"]["minAvailable"]: item["spec"] for item in found.apply if item["kind"] == "PodDisruptionBudget"
    }
    pods = [item["spec"] for item in found.apply if item["kind"] in ("Job", "Deployment")]
    assert len(budgets) == len(pods) == 2
    for spec in pods:
        of = budgets[spec.get("parallelism") or spec.get("replicas")]
        assert of["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


# -- attempts


def test_a_new_attempt_waits_until_every_pod_of_the_old_one_is_gone() -> None:
    world, run = World(), run_of(star_1="Training")
    world.settle(run)
    world.add_pods(pod("star-1", "train"), pod("star-1", "rollout"))
    failed = amend(move(run, run_of(star_1="Pending").status), "star-1", attempt=2)
    world.settle(failed)
    assert world.names("Job") == world.names("Deployment") == set()
    second = amend(move(run, run_of(star_1="Starting").status), "star-1", attempt=2)
    world.turn(second)
    assert world.names("Job") == world.names("Deployment") == set()
    assert world.secrets == set()
    world.clear_pods()
    world.settle(second)
    assert world.names("Job") == {"demo-star-1-train-2"}
    assert world.names("Deployment") == world.secrets == {"demo-star-1-rollout-2"}


def test_a_resumed_attempt_waits_for_its_own_old_pods() -> None:
    world = World()
    world.settle(run_of(star_1="Training"))
    world.settle(run_of(star_1="Suspended"))
    world.add_pods(pod("star-1", "train", deleting_since=MADE))
    world.turn(run_of(star_1="Starting"))
    assert world.names("Job") == set()
    assert world.names("Deployment") == {"demo-star-1-rollout-1"}


def test_an_object_that_is_being_deleted_is_left_until_it_is_gone() -> None:
    world, run = World(), run_of(star_1="Training")
    world.settle(run)
    world.change("Job", "demo-star-1-train-1", deleting=True)
    found = world.plan(run)
    assert (found.apply, found.delete) == ((), ())
    world.remove("Job", "demo-star-1-train-1")
    assert [item["metadata"]["name"] for item in world.plan(run).apply] == ["demo-star-1-train-1"]


def test_policies_stay_until_the_pods_under_them_have_ended() -> None:
    world = World()
    world.settle(run_of(star_1="Training"))
    world.add_pods(pod("star-1", "train", deleting_since=MADE))
    world.turn(run_of(star_1="Failed"))
    assert world.names("NetworkPolicy") == {"demo-star-1-train-1"}
    world.clear_pods()
    world.settle(run_of(star_1="Failed"))
    assert world.names("NetworkPolicy") == set()


def test_a_secret_goes_before_the_deployment_that_tells_of_it() -> None:
    world = World()
    world.settle(run_of(star_1="Training"))
    order = [(child.kind, child.uid) for child in world.plan(run_of(star_1="Failed")).delete]
    assert order.index(("Secret", "")) < [kind for kind, _ in order].index("Deployment")


def test_pods_of_lost_nodes_are_deleted_by_force_where_the_installation_says_so() -> None:
    late = MADE + timedelta(seconds=61)
    observed = Observed(time=late, pods=(pod("star-1", "train", deleting_since=MADE, grace_seconds=30),))
    run = run_of(star_1="Pending")
    assert World(observed, Settings(force_delete_lost_pods=True)).plan(run).force_delete == observed.pods
    assert World(observed).plan(run).force_delete == ()
    early = replace(observed, time=late - timedelta(seconds=2))
    assert World(early, Settings(force_delete_lost_pods=True)).plan(run).force_delete == ()


# -- frozen and mutable


def test_a_newer_operator_changes_nothing_that_runs() -> None:
    world, run = World(), run_of({"prepare": "Starting"}, star_1="Training", sft_1="Evaluating")
    world.settle(run)
    newer = Settings(version="9.9.9", env={"NEW": "1"}, gpu_resource="amd.com/gpu", storage_class_name="other")
    world.settings = newer
    found = world.plan(run)
    assert (found.apply, found.delete) == ((), ())


def test_a_missing_child_is_made_again_with_the_images_of_its_attempt() -> None:
    world = World()
    run = amend(run_of(star_1="Training"), "star-1", images={"trainer": "trainer:1", "rollout": "rollout:1"})
    world.settle(run)
    for kind, name in (("Job", "demo-star-1-train-1"), ("Deployment", "demo-star-1-rollout-1")):
        world.remove(kind, name)
    world.settings = Settings(version="9.9.9")
    images = {
        container["image"]
        for item in world.plan(run).apply
        if item["kind"] in ("Job", "Deployment")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"trainer:1", "rollout:1"}


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy"])
def test_drift_of_what_is_mutable_is_repaired(kind: str) -> None:
    world, run = World(), run_of(star_1="Training")
    world.settle(run)
    name = "demo-star-1-rollout-1"
    live = world.observed.child(kind, name)
    assert live is not None
    assert live.spec is not None
    world.change(kind, name, spec={**live.spec, "added-by-the-server": 1})
    assert world.plan(run).apply == ()
    broken = {"selector": {}} if kind == "Service" else {"ingress": [{}]}
    world.change(kind, name, spec={**live.spec, **broken})
    assert [(item["kind"], item["metadata"]["name"]) for item in world.turn(run).apply] == [(kind, name)]
    world.settle(run)


def test_secrets_under_way_are_told_for_the_resync_alone() -> None:
    world, run = World(), run_of(star_1="Training", raw_1="Evaluating")
    first = world.turn(run)
    assert first.secrets == ()
    assert len([item for item in first.apply if item["kind"] == "Secret"]) == 2
    again = world.plan(run)
    assert again.apply == ()
    assert sorted(item["metadata"]["name"] for item in again.secrets) == [
        "demo-raw-1-rollout-1",
        "demo-star-1-rollout-1",
    ]


# -- ends


def test_an_expired_run_keeps_its_claim_alone() -> None:
    world = World()
    world.settle(run_of({"prepare": "Starting"}, star_1="Training"))
    finished(world, "demo-prepare-1", "demo-star-1-train-1")
    ended = run_of(star_1="Succeeded")
    world.settle(ended)
    world.settle(move(ended, ended.status.model_copy(update={"children_expired": True})))
    assert [child.kind for child in world.observed.children] == ["PersistentVolumeClaim"]


def test_runs_that_are_deleted_or_invalid_are_left_alone() -> None:
    world, run = World(), run_of(star_1="Training")
    world.settle(run)
    nothing = type(world.plan(run))()
    assert world.plan(replace(run, deleting=True)) == nothing
    assert world.plan(replace(run, run=None)) == nothing


# -- properties


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_a_plan_converges_and_harms_no_other_component(seed: int) -> None:
    chance = random.Random(seed)
    task = chance.choice(["cos_e", "mbpp"])
    engine = chance.choice(["vllm", "vllm", "transformers"])
    run = run_of(
        settings={"task": {"name": task}, "rollout": {"engine": engine}, "queueName": chance.choice([None, "q"])}
    )
    world, phases, attempts = World(), {}, {arm.name: 1 for arm in run.arms}
    active = ("Starting", "Training", "Evaluating")
    for _ in range(25):
        name = chance.choice([arm.name for arm in run.arms])
        before = {
            child for other, phase in phases.items() if phase in active and other != name for child in _of(world, other)
        }
        phases[name] = chance.choice(["Pending", "Queued", *active, "Suspended", "Succeeded", "Failed"])
        attempts[name] += phases[name] == "Pending"
        state = status(PREPARED, **{other.replace("-", "_"): phase for other, phase in phases.items()})
        run = move(run, state)
        for other, number in attempts.items():
            run = amend(run, other, attempt=number)
        world.settle(run)
        after = {child for other in attempts for child in _of(world, other)}
        assert before <= after


def _of(world: World, arm: str) -> set[tuple[str, str]]:
    return {(child.kind, child.name) for child in world.observed.of(arm)}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_same_inputs_plan_the_same_bytes(example: Any) -> None:
    from unisd_operator.planning.render import render, to_yaml

    first, second = (to_yaml(render(load_cluster_run(example), Settings())) for _ in range(2))
    assert first == second


def test_the_status_of_nobody_plans_nothing() -> None:
    assert World().plan(resource(Status())).apply == ()


def test_objects_are_plain_json() -> None:
    run = run_of(
        {"prepare": "Starting"}, {"queueName": "q", "task": {"name": "mbpp"}}, star_1="Training", raw_1="Evaluating"
    )
    for item in World().plan(run).apply:
        assert json.loads(json.dumps(item)) == item, item["metadata"]["name"]
