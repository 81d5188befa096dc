"""The push of what was trained to a hub: one pod of a run, and the token is that pod's alone."""

import json

from unisd_operator.planning.config_map import config_hash, frozen_manifest

from tests.operator.planning.world import World, resource, status


def test_the_hubs_token_reaches_the_push_alone() -> None:
    token = {"secretKeyRef": {"name": "hub-writer", "key": "token"}}
    run = resource(
        status(
            {"prepare": "Succeeded", "report": "Starting", "push": "Starting"}, star_1="Succeeded", sft_1="Evaluating"
        ),
        outputs={"hub": {"repository": "me/exp", "token": token}},
    )
    applied = World().plan(run).apply
    (job,) = [item for item in applied if "hub-writer" in json.dumps(item)]
    assert job["metadata"]["name"] == "demo-push-1"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {item["name"]: item for item in container["env"]}
    assert env["HF_TOKEN"]["valueFrom"] == token
    assert env["HF_HUB_OFFLINE"]["value"] == "0"
    assert container["command"][:2] == ["unisd", "push"]


def test_without_a_token_of_its_own_the_push_has_the_environments() -> None:
    run = resource(status({"push": "Starting"}), outputs={"hub": {"repository": "me/exp"}})
    job = next(item for item in World().plan(run).apply if item["kind"] == "Job")
    names = {item["name"] for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "HF_TOKEN" not in names


def test_pods_learn_where_results_go_and_not_by_what_right() -> None:
    token = {"secretKeyRef": {"name": "hub-writer", "key": "token"}}
    run = resource(outputs={"hub": {"repository": "me/exp", "token": token}})
    assert frozen_manifest(run)["spec"]["outputs"] == {"hub": {"repository": "me/exp"}}
    assert config_hash(run, "star-1") == config_hash(resource(), "star-1")
