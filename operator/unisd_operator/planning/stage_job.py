"""Jobs of one pod: prepare, contexts, evaluate, report, push, results. Pure."""

from collections.abc import Sequence
from typing import Any

from unisd.config.cluster import Container
from unisd.config.names import CLAIM_ROOT
from unisd_operator.api.names import Object, Role
from unisd_operator.planning import config_map, needs, ports, secret, sizes, storage
from unisd_operator.planning.grader import address as grader_address
from unisd_operator.planning.images import Runs
from unisd_operator.planning.metadata import Attempt, make
from unisd_operator.planning.network import client_policy, closed_policy, outward_policy
from unisd_operator.planning.pod import SHM_MOUNT, PodPlan, Program, shm_volume, template, variable
from unisd_operator.planning.rollout import address as rollout_address
from unisd_operator.planning.trainer import stage_command, stage_env


def prepare_objects(attempt: Attempt) -> list[Object]:
    """Fetches model and data into the claim, where the hub's cache lies."""
    hub = [variable("HF_HUB_OFFLINE", "0"), variable("HF_HOME", f"{CLAIM_ROOT}/cache/huggingface")]
    return [outward_policy(attempt, "prepare"), _job(attempt, "prepare", "preparation", hub)]


def contexts_objects(attempt: Attempt) -> list[Object]:
    """Makes negatives and induced instructions, on servers of its own if the run has servers."""
    return [client_policy(attempt, "contexts"), _job(attempt, "contexts", "preparation", _helpers(attempt))]


def evaluate_objects(attempt: Attempt) -> list[Object]:
    """Scores a component, as a client of its servers if the run has servers."""
    return [client_policy(attempt, "evaluate"), _job(attempt, "evaluate", "evaluation", _helpers(attempt))]


def report_objects(attempt: Attempt) -> list[Object]:
    """Writes the report of all components into the claim."""
    return [closed_policy(attempt, "report"), _job(attempt, "report", "evaluation", [])]


def push_objects(attempt: Attempt) -> list[Object]:
    """Pushes what was trained to the hub: the one pod that has the token for it."""
    hub = attempt.run.spec.outputs.hub
    reference = hub.token.secret_key_ref if hub.token else None
    source = {"secretKeyRef": {"name": reference.name, "key": reference.key}} if reference else None
    token: list[Object] = [{"name": "HF_TOKEN", "valueFrom": source}] if source else []
    online = variable("HF_HUB_OFFLINE", "0")
    return [outward_policy(attempt, "push"), _job(attempt, "push", "evaluation", [online, *token])]


def results_objects(attempt: Attempt) -> list[Object]:
    """Repeats from the claim what an evaluation found, whose pod was gone before its last words were read."""
    return [closed_policy(attempt, "results"), _job(attempt, "results", "evaluation", [])]


def pod_template(attempt: Attempt, role: Role, block: Runs, env: Sequence[Object]) -> dict[str, Any]:
    """The pod of such a Job; `block` names the block of the run that its image, resources and additions come from."""
    run = attempt.run
    own: Container = run.spec.preparation if block == "preparation" else run.spec.evaluation
    volumes, mounts = storage.mounts(run, read_only=False)
    config, config_mount = config_map.volume(attempt)
    computes = role in ("contexts", "evaluate") and not needs.asks_servers(run, attempt.arm)
    shm, shm_mount = ([shm_volume(run.spec)], [SHM_MOUNT]) if computes else ([], [])
    program = Program(
        role,
        attempt.images[block],
        stage_command(attempt, role),
        _resources(attempt, role, own, computes),
        env=(*stage_env(), *env),
        mounts=(*mounts, config_mount, *shm_mount),
        ports={"metrics": ports.METRICS},
    )
    extra = {"restartPolicy": "Never"}
    return template(PodPlan(attempt, role, (program,), own.pod, [*volumes, config, *shm], extra=extra))


def _job(attempt: Attempt, role: Role, block: Runs, env: Sequence[Object]) -> Object:
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": pod_template(attempt, role, block, env),
    }
    return make(attempt, "batch/v1/Job", attempt.name(role), role, {"spec": spec})


def _resources(attempt: Attempt, role: Role, block: Container, computes: bool) -> dict[str, Any]:
    """Small for what only reads and writes, the model's size for what prepares or scores, a GPU for what generates."""
    row = sizes.size(attempt.run.spec)
    if role in ("report", "push", "results"):
        return sizes.resources(None, {"cpu": "500m", "memory": "2Gi"}, {})
    requests = {"cpu": "4" if computes else "2", "memory": f"{row.trainer if computes else row.stage}Gi"}
    return sizes.resources(block.resources, requests, {attempt.settings.gpu_resource: 1} if computes else {})


def _helpers(attempt: Attempt) -> list[Object]:
    """Where a client finds its servers and the grader."""
    spec = attempt.run.spec
    servers = (
        [secret.reference(attempt), rollout_address(attempt)] if needs.asks_servers(attempt.run, attempt.arm) else []
    )
    grader = [grader_address(attempt.run)] if needs.uses_grader(spec) else []
    return [*servers, *grader]
