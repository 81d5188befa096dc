"""Who generates on rollout servers."""

from tests.operator.planning.world import World, resource, status


def test_weights_that_were_all_trained_are_evaluated_by_their_own_pod_on_a_gpu() -> None:
    """Servers hold the base and adapters: they have no place for such weights."""
    world = World()
    phases = status({"prepare": "Succeeded"}, sft_1="Evaluating", raw_1="Evaluating")
    components = [{"name": "sft", "preset": "sft"}, {"name": "raw", "preset": "raw"}]
    applied = world.settle(resource(phases, components=components, training={"fineTuning": "full"}))
    assert [child.name for child in world.observed.children if child.kind == "Deployment"] == ["demo-raw-1-rollout-1"]
    jobs = {item["metadata"]["name"]: item["spec"]["template"]["spec"] for item in applied if item["kind"] == "Job"}
    limits = {name: spec["containers"][0]["resources"].get("limits", {}) for name, spec in jobs.items()}
    assert limits["demo-sft-1-evaluate-1"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in limits["demo-raw-1-evaluate-1"]
