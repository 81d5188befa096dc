"""The training of an attempt: an Indexed Job of one pod a node, and the Service by which its pods find each other.

Pure. The Job never retries: attempts are the operator's, so that two can never overlap.
"""

from typing import Any

from unisd.config.names import CLAIM_ROOT, run_directory
from unisd.config.serving import trains_on_servers
from unisd_operator.api.names import Object
from unisd_operator.planning import config_map, needs, ports, secret, sizes, storage
from unisd_operator.planning.grader import address as grader_address
from unisd_operator.planning.metadata import Attempt, make
from unisd_operator.planning.network import trainer_policy
from unisd_operator.planning.pod import SHM_MOUNT, PodPlan, Program, shm_volume, template, variable
from unisd_operator.planning.rollout import address as rollout_address

GRACE_SECONDS = 120
"""Time for the checkpoint that SIGTERM asks for."""
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def trainer_objects(attempt: Attempt) -> list[Object]:
    """All that the training of an attempt consists of, its servers left out."""
    return [service(attempt), trainer_policy(attempt), job(attempt)]


def service(attempt: Attempt) -> Object:
    """The headless Service that gives each pod of the training a name, before it is ready."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": attempt.labels("train"),
        "ports": [{"name": "rendezvous", "port": ports.RENDEZVOUS, "targetPort": ports.RENDEZVOUS, "protocol": "TCP"}],
    }
    return make(attempt, "v1/Service", attempt.name("train"), "train", {"spec": spec})


def job(attempt: Attempt) -> Object:
    """The Job."""
    nodes = attempt.run.spec.trainer.num_nodes
    spec = {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": pod_template(attempt),
    }
    return make(attempt, "batch/v1/Job", attempt.name("train"), "train", {"spec": spec})


def pod_template(attempt: Attempt) -> dict[str, Any]:
    """The pod of one node."""
    spec = attempt.run.spec
    volumes, mounts = storage.mounts(attempt.run, read_only=False)
    config, config_mount = config_map.volume(attempt)
    return template(
        PodPlan(
            attempt,
            "train",
            programs=(_trainer(attempt, [*mounts, config_mount]),),
            block=spec.trainer.pod,
            volumes=[*volumes, config, shm_volume(spec)],
            grace_seconds=GRACE_SECONDS,
            extra={"restartPolicy": "Never", "subdomain": attempt.name("train")},
        )
    )


def _trainer(attempt: Attempt, mounts: list[Object]) -> Program:
    spec = attempt.run.spec
    processes = spec.trainer.num_proc_per_node
    requests = {"cpu": str(4 * processes), "memory": f"{sizes.size(spec).trainer * processes}Gi"}
    return Program(
        "trainer",
        attempt.images["trainer"],
        stage_command(attempt, "train"),
        sizes.resources(spec.trainer.resources_per_node, requests, {attempt.settings.gpu_resource: processes}),
        env=(*stage_env(), *_rendezvous(attempt), *_helpers(attempt)),
        mounts=(*mounts, SHM_MOUNT),
        ports={"metrics": ports.METRICS},
    )


def stage_command(attempt: Attempt, command: str) -> list[str]:
    """The command line of a stage in its pod."""
    arm = [] if attempt.arm is None else ["--arm", attempt.arm]
    directory = run_directory(attempt.run.uid)
    return ["unisd", command, "-f", config_map.MANIFEST, "--directory", directory, *arm]


def stage_env() -> list[Object]:
    """Environment of every stage: what may be used again lies in the claim; the hub is preparation's alone."""
    return [variable("UNISD_CACHE", f"{CLAIM_ROOT}/cache"), variable("HF_HUB_OFFLINE", "1")]


def _rendezvous(attempt: Attempt) -> list[Object]:
    """torchrun's own environment: the first pod is the meeting place."""
    trainer, name = attempt.run.spec.trainer, attempt.name("train")
    return [
        variable("PET_NNODES", str(trainer.num_nodes)),
        variable("PET_NPROC_PER_NODE", str(trainer.num_proc_per_node)),
        {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}},
        variable("PET_MASTER_ADDR", f"{name}-0.{name}.{attempt.run.namespace}.svc"),
        variable("PET_MASTER_PORT", str(ports.RENDEZVOUS)),
    ]


def _helpers(attempt: Attempt) -> list[Object]:
    """Where the trainer finds its rollout servers and the grader."""
    spec = attempt.run.spec
    found = []
    if trains_on_servers(spec, needs.arm_named(attempt.run, attempt.arm)):
        found += [secret.reference(attempt), rollout_address(attempt)]
    if needs.grades_while_training(spec):
        found.append(grader_address(attempt.run))
    return found
