"""A whole run on a real node: real vLLM, two trainer pods, scores in status, report in the claim."""

import json
from pathlib import Path

import yaml

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.installation import with_packages
from tests.e2e.runs import component_of, metrics_of, succeeds
from tests.e2e.watching import watched

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "examples/data/cos_e/train.jsonl"
MANIFEST = ROOT / "examples/e2e.yaml"
LIMIT = 60 * 60
"""Seconds that are waited for the run, which takes a quarter of them on two cores."""
ARMS = ("star-1", "agreement-1", "sft-1")


def test_three_components_run_to_their_end(node: NodeCluster, team: str) -> None:
    manifest = with_packages(yaml.safe_load(MANIFEST.read_text(encoding="utf-8")))
    claim = node.add_volume("e2e", team)
    node.kubectl("create", "configmap", "e2e-rows", "-n", team, f"--from-file=rows.jsonl={ROWS}")

    with watched(node, team) as watch:
        node.apply(manifest, namespace=team)
        status = succeeds(node, team, "e2e", within=LIMIT)
        eventually(lambda: status["phase"] in watch.lines.splitlines()[-1])

    rows = manifest["spec"]["task"]["maxEvalExamples"]
    for arm in ARMS:
        component = component_of(status, arm)
        assert component["phase"] == "Succeeded"
        accuracy = next(found for found in component["evaluations"] if found["metric"] == "accuracy")
        assert accuracy["items"] == rows
        assert 0 <= accuracy["low"] <= accuracy["score"] <= accuracy["high"] <= 1
    (report_file,) = claim.glob("runs/*/report/report.json")
    report = json.loads(report_file.read_text())
    assert set(report["arms"]) == set(ARMS)

    sampled = manifest["spec"]["task"]["maxTrainExamples"]
    for arm in ARMS:
        samples = arm != "sft-1"
        assert watch.answered[arm] >= rows + samples * sampled, watch.answered
        if samples:
            steps = metrics_of(claim, 1, arm)
            assert steps
            assert all(step["logp_difference"] < 0.1 and step["policy_lag"] == 0 for step in steps), steps
    heading, *shown = watch.lines.splitlines()
    assert heading.split() == ["NAME", "PHASE", "COMPONENTS", "PROGRESS", "REASON", "AGE"]
    assert shown[-1].split()[:4] == ["e2e", "Succeeded", f"{len(ARMS)}/{len(ARMS)}", "100"]
