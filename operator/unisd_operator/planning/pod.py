"""Every pod of a run is built here: one shape, filled with programs. Pure; called by builders of Jobs and Deployments.

Pods pass Pod Security `restricted` and run under any user. Their root is read-only; one emptyDir at /scratch holds
HOME, temporary files and every cache. They carry no API token. A run's `pod` blocks come on top of the installation's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unisd.config.cluster import Pod
from unisd.config.run import RunSpec
from unisd_operator.api import names as api
from unisd_operator.api.names import Object
from unisd_operator.planning import names, ports, sizes, storage
from unisd_operator.planning.metadata import Attempt, pruned
from unisd_operator.settings import Settings

SCRATCH = "/scratch"
_CACHES = {
    "HOME": SCRATCH,
    "USER": "unisd",
    "TMPDIR": "/tmp",
    "XDG_CACHE_HOME": f"{SCRATCH}/cache",
    "HF_HOME": f"{SCRATCH}/huggingface",
    "VLLM_CACHE_ROOT": f"{SCRATCH}/vllm",
    "TRITON_CACHE_DIR": f"{SCRATCH}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{SCRATCH}/inductor",
    "TORCH_EXTENSIONS_DIR": f"{SCRATCH}/extensions",
    "CUDA_CACHE_PATH": f"{SCRATCH}/cuda",
    "NUMBA_CACHE_DIR": f"{SCRATCH}/numba",
    "UNISD_METRICS_HOST": "::",  # every address, of IPv4 too
    "UNISD_METRICS_PORT": str(ports.METRICS),
    "UNISD_TERMINATION_LOG": "/dev/termination-log",
}
_LOST_NODE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
SHM_MOUNT: Object = {"name": "shm", "mountPath": "/dev/shm"}
"""Shared memory for NCCL and data loaders: a container's own is 64 MiB."""
LOST_NODE_SECONDS = 30
"""Time after which pods leave a node that does not answer."""


@dataclass(frozen=True)
class Program:
    """One container."""

    name: str
    image: str
    command: Sequence[str]
    resources: Object
    env: Sequence[Object] = ()
    mounts: Sequence[Object] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    probes: Mapping[str, Object] = field(default_factory=dict)
    """E.g. `readinessProbe`."""


@dataclass(frozen=True)
class PodPlan:
    """What a pod runs and mounts. The first program is the one that a run's `pod` block adds to."""

    attempt: Attempt
    role: api.Role
    programs: Sequence[Program]
    block: Pod | None
    volumes: Sequence[Object] = ()
    isolated: bool = False
    """Whether it gets nothing but the place to run of what the installation adds to pods, and no claim."""
    grace_seconds: int = 30
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the pod's specification, e.g. `restartPolicy`."""


def variable(name: str, value: str) -> Object:
    """An environment variable."""
    return {"name": name, "value": value}


def memory_volume(name: str, mib: int) -> Object:
    """An emptyDir in memory."""
    limit = f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": limit}}


def shm_volume(spec: RunSpec) -> Object:
    """What SHM_MOUNT mounts, by model size."""
    return memory_volume("shm", sizes.size(spec).shm * 1024)


def template(plan: PodPlan) -> dict[str, Any]:
    """The pod template of a Job or Deployment."""
    settings = plan.attempt.settings
    house = _bare(settings.pod) if plan.isolated else settings.pod
    blocks = [block for block in (house, plan.block) if block is not None]
    metadata = {
        "labels": {**_merged(blocks, "labels"), **plan.attempt.all_labels(plan.role), **_claim_label(plan)},
        "annotations": _merged(blocks, "annotations"),
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(settings),
        "terminationGracePeriodSeconds": _last(blocks, "termination_grace_period_seconds") or plan.grace_seconds,
        **_placement(plan, blocks),
        **{alias: _last(blocks, name) for name, alias in _SINGLE.items()},
        "imagePullSecrets": _joined(blocks, "image_pull_secrets"),
        "containers": _containers(plan, blocks),
        "volumes": [{"name": "scratch", "emptyDir": {}}, *plan.volumes, *_joined(blocks, "volumes")],
        **plan.extra,
    }
    return {"metadata": pruned(metadata), "spec": pruned(spec)}


_SINGLE = {
    "service_account_name": "serviceAccountName",
    "priority_class_name": "priorityClassName",
    "runtime_class_name": "runtimeClassName",
    "scheduler_name": "schedulerName",
}


def _containers(plan: PodPlan, blocks: Sequence[Pod]) -> list[Object]:
    main, *others = plan.programs
    added = {"envFrom": _joined(blocks, "env_from"), "mounts": _joined(blocks, "volume_mounts")}
    own = [item for block in blocks for item in block.env or []]
    return [_container(plan, main, own, added), *(_container(plan, other, [], {}) for other in others)]


def _container(plan: PodPlan, program: Program, own_env: Sequence[Object], added: Mapping[str, Any]) -> Object:
    settings = plan.attempt.settings
    scratch = [{"name": "scratch", "mountPath": SCRATCH}, {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"}]
    defaults = [variable(name, value) for name, value in {**_CACHES, **settings.env}.items()]
    ours = [
        variable("UNISD_RUN_UID", plan.attempt.run.uid),
        variable("UNISD_ATTEMPT", str(plan.attempt.number)),
        *program.env,
    ]
    return pruned(
        {
            "name": program.name,
            "image": program.image,
            "imagePullPolicy": settings.images.pull_policy,
            "command": list(program.command),
            "env": _by_name([*defaults, *own_env, *ours]),
            "envFrom": added.get("envFrom"),
            "ports": [{"name": name, "containerPort": port} for name, port in program.ports.items()],
            "resources": program.resources,
            "volumeMounts": [*scratch, *program.mounts, *added.get("mounts", [])],
            **program.probes,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
        }
    )


def _pod_security(settings: Settings) -> Object:
    group = settings.security.fs_group
    return pruned(
        {
            "runAsNonRoot": True,
            "runAsUser": settings.security.run_as_user,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    )


def _placement(plan: PodPlan, blocks: Sequence[Pod]) -> dict[str, Any]:
    """Where the pod may run."""
    given = _joined(blocks, "tolerations")
    named = [toleration.get("key") for toleration in given]
    lost = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_SECONDS}
        for key in _LOST_NODE
        if key not in named
    ]
    return {
        "nodeSelector": _merged(blocks, "node_selector"),
        "tolerations": [*given, *lost],
        "affinity": _affinity(_last(blocks, "affinity") or {}, _claim_label(plan)),
        "topologySpreadConstraints": _joined(blocks, "topology_spread_constraints"),
    }


def _bare(block: Pod) -> Pod:
    """A block without what it brings into containers."""
    return block.model_copy(update={"env": None, "env_from": None, "volumes": None, "volume_mounts": None})


def _claim_label(plan: PodPlan) -> dict[str, str]:
    """Label of pods that must share a node, since their claim can be mounted on one alone."""
    if plan.isolated or not plan.attempt.on_one_node:
        return {}
    return {api.CLAIM: names.as_label(storage.claim_name(plan.attempt.run))}


def _affinity(given: Object, label: Mapping[str, str]) -> Object:
    """The affinity given, and being on the node of the other pods with this label."""
    if not label:
        return given
    term = {"labelSelector": {"matchLabels": dict(label)}, "topologyKey": "kubernetes.io/hostname"}
    pods = given.get("podAffinity", {})
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    return {**given, "podAffinity": {**pods, required: [*pods.get(required, []), term]}}


def _merged(blocks: Iterable[Pod], name: str) -> dict[str, str]:
    """A mapping over all blocks; of one key, the last counts."""
    return {key: value for block in blocks for key, value in (getattr(block, name) or {}).items()}


def _joined(blocks: Iterable[Pod], name: str) -> list[Any]:
    """A list over all blocks."""
    return [item for block in blocks for item in getattr(block, name) or []]


def _last(blocks: Iterable[Pod], name: str) -> Any:
    """The last block's value, of those that give one."""
    given = [value for block in blocks if (value := getattr(block, name)) is not None]
    return given[-1] if given else None


def _by_name(variables: Iterable[Object]) -> list[Object]:
    """Environment variables, each name once: the last counts, at its own place, so that it may refer to others."""
    found: dict[str, Object] = {}
    for item in variables:
        found.pop(item["name"], None)
        found[item["name"]] = item
    return list(found.values())
