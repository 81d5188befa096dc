"""One run whose components fail each in its own way: what ends a training from within, by its reason in status."""

from pathlib import Path

import pytest

from tests.cluster.node import NodeCluster
from tests.e2e.runs import component_of, config_map, fails, manifest, start

PLAYER = Path(__file__).with_name("recorded.py")
LOGS = Path(__file__).parents[1] / "operator/status/logs"
# Failures that this machine cannot have, without a GPU: by what torch and NCCL were recorded to say of them.
RECORDED = {
    "cuda.log": "cuda_illegal_access.log",
    "memory.raised.log": "cuda_out_of_memory.log",
    "nccl.log": "nccl_timeout.log",
}
COMPONENTS = [
    *({"name": name, "preset": "sft"} for name in ("cuda", "memory", "nccl")),
    {"name": "diverges", "preset": "sft", "training": {"learningRate": 1e30}},
    # Random weights never end an answer.
    {"name": "collapses", "divergence": {}},
]
PLAYED = {
    "env": [{"name": "PYTHONPATH", "value": "/recorded"}],
    "volumes": [{"name": "recorded", "configMap": {"name": "recorded"}}],
    "volumeMounts": [{"name": "recorded", "mountPath": "/recorded", "readOnly": True}],
}


@pytest.mark.full
def test_components_fail_each_for_its_own_reason(node: NodeCluster, team: str) -> None:
    logs = {name: (LOGS / log).read_text() for name, log in RECORDED.items()}
    played = {"sitecustomize.py": PLAYER.read_text(), **logs}
    node.apply(config_map("recorded", played), namespace=team)
    guard = {"action": "Stop", "window": 1, "maxNonFinite": 2}
    run = manifest(
        "reasons",
        training={"guard": guard, "schedule": "constant", "warmupRatio": 0.0},
        trainer={"numNodes": 1, "numProcPerNode": 2, "deepspeed": {"stage": 0}, "pod": PLAYED},
        components=COMPONENTS,
        parallelism=2,
        backoffLimit=0,
    )
    start(node, team, run)

    status = fails(node, team, "reasons")
    found = {name: component_of(status, f"{name}-1")["failure"] for name in ("cuda", "memory", "nccl")}
    assert {name: (failure["reason"], failure["exitCode"]) for name, failure in found.items()} == {
        "cuda": ("CudaError", 134),
        "memory": ("CudaError", 1),
        "nccl": ("NcclError", 134),
    }
    assert "was killed by SIGABRT" in found["cuda"]["message"]
    assert "an illegal memory access was encountered" in found["cuda"]["logTail"]
    assert "CUDA out of memory" in found["memory"]["message"]
    assert "Watchdog caught collective operation timeout" in found["nccl"]["logTail"]

    told = {name: component_of(status, f"{name}-1")["failure"] for name in ("diverges", "collapses")}
    assert {name: (failure["reason"], failure["exitCode"]) for name, failure in told.items()} == {
        "diverges": ("NonFinite", 67),
        "collapses": ("PolicyCollapsed", 66),
    }
    assert "2 steps in a row had a non-finite loss or gradient" in told["diverges"]["message"]
    assert "truncated_share 1.000 is above 0.9" in told["collapses"]["message"]
