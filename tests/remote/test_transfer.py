"""Results out of a claim and data into it, through pods of a real API server whose commands run on this machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import kwok
from tests.cluster.cluster import Cluster
from unisd.remote.carrier import Place, carrier_pod
from unisd.remote.cluster import ClusterError
from unisd.remote.fetch import wanted
from unisd.sealed import complete_directory

RUN = {
    "metadata": {"name": "demo"},
    "status": {
        "stages": [{"name": "prepare", "phase": "Succeeded"}, {"name": "report", "phase": "Pending"}],
        "components": [
            {"name": "raw-1", "phase": "Succeeded"},
            {"name": "sft-1", "phase": "Training"},
            {"name": "star-1", "phase": "Evaluating", "trainedTime": "2026-05-01T12:00:00Z"},
        ],
    },
}


def told(run):
    return {**run, "status": {**run["status"], "stages": [{"name": "report", "phase": "Succeeded"}]}}


def test_what_there_is_comes_unless_something_is_asked_for():
    assert wanted(RUN, None, False) == ["star-1"]
    assert wanted(told(RUN), None, False) == ["star-1", "report"]
    assert wanted(told(RUN), None, True) == ["report"]
    assert wanted(told(RUN), "star-1", True) == ["star-1", "report"]


@pytest.mark.parametrize(
    ("component", "report", "words"),
    [
        ("sft-1", False, "no trained weights: it is Training"),
        ("raw-1", False, "raw trains nothing"),
        ("star", False, "no component star; it has raw-1, sft-1, star-1"),
        ("prepare", False, "no component prepare"),
        (None, True, "no report yet: its report is Pending"),
    ],
)
def test_what_is_not_there_is_told_before_a_pod_is_made(component, report, words):
    with pytest.raises(ClusterError, match=words):
        wanted(RUN, component, report)


def test_a_new_run_has_nothing():
    with pytest.raises(ClusterError, match="neither a trained component nor a report"):
        wanted({"metadata": {"name": "demo"}}, None, False)


def test_the_pod_is_like_those_of_the_run():
    template = {
        "metadata": {"labels": {"unisd.dev/run-uid": "u", "unisd.dev/claim": "demo"}},
        "spec": {
            "tolerations": [{"key": "pool"}],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 4711},
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [{"name": "prepare", "env": [{"name": "HF_TOKEN", "value": "secret"}]}],
        },
    }
    pod = carrier_pod(Place("demo", "image", sub_path="folder", like=template), read_only=True)
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/name": "unisd-carrier", "unisd.dev/claim": "demo"}
    assert {key: pod["spec"][key] for key in ("tolerations", "imagePullSecrets")} == {
        "tolerations": [{"key": "pool"}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    assert pod["spec"]["securityContext"]["runAsUser"] == 4711
    assert "HF_TOKEN" not in str(pod)
    assert pod["spec"]["containers"][0]["volumeMounts"] == [
        {"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "folder"}
    ]


# -- on a control plane


def run_of(cluster, namespace, name="demo", **spec):
    """A run without an operator, as if one had trained `star-1` and told of it."""
    body = {
        "apiVersion": "unisd.dev/v1alpha1",
        "kind": "SelfDistillRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"name": "org/model"},
            "task": {"name": "cos_e"},
            "components": [{"name": "star", "preset": "unisd_star"}],
            **spec,
        },
    }
    cluster.apply(body)
    arm = {
        "name": "star-1",
        "component": "star",
        "seed": 1,
        "phase": "Succeeded",
        "trainedTime": "2026-05-01T12:00:00Z",
    }
    report = {"name": "report", "phase": "Succeeded", "image": "registry.test/trainer:9"}
    status = {"stages": [report], "components": [arm]}
    cluster.kubectl(
        "patch",
        "sdr",
        name,
        "-n",
        namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
    )
    return cluster.json("get", "sdr", name, "-n", namespace)["metadata"]["uid"]


def claim(name):
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def results(cluster, uid):
    """What a run leaves in its claim: two attempts at star-1, and a report."""
    run = kwok.claim_folder(cluster.folder) / "runs" / uid
    for attempt in (1, 2):
        train = run / f"components/star-1/{attempt}/train"
        with complete_directory(train / "adapter") as adapter:
            (adapter / "adapter_model.safetensors").write_bytes(bytes([attempt]) * 3_000_000)
            (adapter / "README.md").write_text("card")
        (train / "result.json").write_text("{}")
    (run / "report").mkdir()
    (run / "report/report.html").write_text("<html>")
    return run


@pytest.fixture(scope="module")
def served(definition: Cluster):
    definition.add_fake_node("node-transfer")
    definition.add_volumes(8)
    return definition


@pytest.fixture
def unisd(served, namespace):
    """Runs a command line against the cluster; returns exit code, output and complaints."""

    def run(*words):
        command = [sys.executable, "-c", "from unisd.cli import main; main()", *map(str, words), "-n", namespace]
        environment = {**os.environ, "KUBECONFIG": str(served.kubeconfig)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        return ended.returncode, ended.stdout, ended.stderr

    return run


def pods(cluster, namespace):
    return [pod["metadata"]["name"] for pod in cluster.json("get", "pods", "-n", namespace)["items"]]


def test_fetch_brings_the_newest_whole_adapter_and_the_report(served, namespace, unisd, tmp_path):
    uid = run_of(served, namespace)
    served.apply(claim("demo"), namespace=namespace)
    results(served, uid)
    since = served.audit_position()
    code, out, complaints = unisd("fetch", "demo", "--to", tmp_path / "got")
    assert code == 0, complaints
    assert re.search(r"star-1: 3 files, 3\.0 MB in .*got/star-1", out)
    assert (tmp_path / "got/star-1/adapter_model.safetensors").read_bytes() == bytes([2]) * 3_000_000
    assert (tmp_path / "got/report/report.html").read_text() == "<html>"
    assert pods(served, namespace) == []
    made = [e for e in served.audit(since=since) if e["verb"] == "create" and e["objectRef"].get("resource") == "pods"]
    pod = next(e["requestObject"] for e in made if not e["objectRef"].get("subresource"))
    assert pod["spec"]["containers"][0]["image"] == "registry.test/trainer:9"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == uid
    code, _, complaints = unisd("fetch", "demo", "star-1", "--to", tmp_path / "got")
    assert code == 1
    assert "is there already" in complaints


def test_fetch_refuses_an_adapter_that_is_not_as_it_was_written(served, namespace, unisd, tmp_path):
    uid = run_of(served, namespace)
    served.apply(claim("demo"), namespace=namespace)
    run = results(served, uid)
    (run / "components/star-1/2/train/adapter/adapter_model.safetensors").write_bytes(b"short")
    code, _, complaints = unisd("fetch", "demo", "star-1", "--to", tmp_path)
    assert code == 1
    assert "adapter_model.safetensors differs" in complaints
    assert pods(served, namespace) == []


def test_the_words_of_the_pod_reach_the_user(served, namespace, unisd, tmp_path):
    run_of(served, namespace)
    served.apply(claim("demo"), namespace=namespace)
    code, _, complaints = unisd("fetch", "demo", "--report", "--to", tmp_path)
    assert code == 1
    assert re.search(r"/report is not there", complaints)
    assert list(tmp_path.iterdir()) == []
    assert pods(served, namespace) == []


def test_upload_into_a_claim_and_out_again(served, namespace, unisd, tmp_path):
    served.apply(claim("data"), namespace=namespace)
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(os.urandom(2_000_000))
    place = f"{namespace}/rows.jsonl"
    code, out, complaints = unisd("upload", rows, "data", "--to", place)
    assert code == 0, complaints
    assert f"is in claim data as {place}" in out
    assert (kwok.claim_folder(served.folder) / place).read_bytes() == rows.read_bytes()
    code, _, complaints = unisd("upload", rows, "data", "--to", place)
    assert code == 1
    assert "is there already" in complaints
    assert pods(served, namespace) == []


def test_upload_into_the_claim_that_a_run_names(served, namespace, unisd, tmp_path):
    served.apply(claim("shared"), namespace=namespace)
    run_of(served, namespace, storage={"existingClaim": "shared"})
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    code, out, _ = unisd("upload", tmp_path / "model", "demo", "--to", f"{namespace}/model")
    assert code == 0
    assert "is in claim shared" in out
    assert (kwok.claim_folder(served.folder) / namespace / "model/config.json").is_file()


@pytest.mark.parametrize("to", ["/etc/rows", "../rows", "a/../../rows"])
def test_upload_stays_in_the_claim(unisd, tmp_path: Path, to):
    (tmp_path / "rows").write_text("")
    code, _, complaints = unisd("upload", tmp_path / "rows", "data", "--to", to)
    assert code == 1
    assert "below the claim's root" in complaints


def test_upload_needs_a_claim(unisd, tmp_path):
    (tmp_path / "rows").write_text("")
    code, _, complaints = unisd("upload", tmp_path / "rows", "nowhere")
    assert code == 1
    assert "no claim nowhere" in complaints
    assert "existingClaim" in complaints


def test_a_pod_that_does_not_run_is_told_in_the_words_of_the_scheduler_and_removed(served, namespace, unisd, tmp_path):
    """The claim of the run was never made: its pod waits for it."""
    run_of(served, namespace)
    code, _, complaints = unisd("fetch", "demo", "--to", tmp_path, "--timeout", "15")
    assert code == 1
    assert 'persistentvolumeclaim "demo" not found' in complaints
    assert pods(served, namespace) == []
