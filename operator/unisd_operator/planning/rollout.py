"""Rollout servers of an attempt: a Deployment of vLLM behind the policy agent, its key, and two Services. Pure.

vLLM listens on the loopback interface alone; the agent is the pod's only listener. No probe can kill a model that is
still loading: the agent answers for itself at once (`/healthz`), and is ready (`/readyz`) when vLLM is up and a version
of the policy was acknowledged since its container started, the base counting as version 0.
"""

from typing import Any

from unisd.config.names import run_directory
from unisd.config.serving import SERVER_ENVIRONMENT, serve_arguments
from unisd_operator.api.names import Object
from unisd_operator.planning import needs, ports, secret, sizes, storage
from unisd_operator.planning.metadata import Attempt, make
from unisd_operator.planning.network import rollout_policy
from unisd_operator.planning.pod import SHM_MOUNT, PodPlan, Program, memory_volume, shm_volume, template, variable

_ADAPTERS = "/adapters"
_MODEL = "prepared/model"
"""Link that preparation leaves in the run's directory: to the model, wherever that lies."""


def rollout_objects(attempt: Attempt, key: bytes) -> list[Object]:
    """All that the rollout servers of an attempt consist of."""
    return [
        secret.secret(attempt, key),
        *(service(attempt, headless) for headless in (False, True)),
        rollout_policy(attempt),
        deployment(attempt),
    ]


def address(attempt: Attempt) -> Object:
    """The environment variable by which a client finds every server: the Service whose name resolves to all pods."""
    host = f"{attempt.name('policy')}.{attempt.run.namespace}.svc"
    return variable("UNISD_ROLLOUT_SERVICE", f"{host}:{ports.ROLLOUT}")


def service(attempt: Attempt, headless: bool) -> Object:
    """`…-rollout` leads to ready servers; `…-policy` names every pod, ready or not, for pushes and for balancing."""
    spec: dict[str, Any] = {
        "selector": attempt.labels("rollout"),
        "ports": [{"name": "http", "port": ports.ROLLOUT, "targetPort": ports.ROLLOUT, "protocol": "TCP"}],
    }
    if headless:
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    name = attempt.name("policy" if headless else "rollout")
    return make(attempt, "v1/Service", name, "rollout", {"spec": spec})


def deployment(attempt: Attempt) -> Object:
    """The Deployment. Its template never changes while the attempt lives."""
    spec = {
        "replicas": attempt.run.spec.rollout.replicas,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": attempt.labels("rollout")},
        "template": pod_template(attempt),
    }
    return make(attempt, "apps/v1/Deployment", attempt.name("rollout"), "rollout", {"spec": spec})


def pod_template(attempt: Attempt) -> dict[str, Any]:
    """The pod of one server."""
    spec = attempt.run.spec
    volumes, mounts = storage.mounts(attempt.run, read_only=True)
    adapters = memory_volume("adapters", sizes.adapters_mib(spec))
    return template(
        PodPlan(
            attempt,
            "rollout",
            programs=(_vllm(attempt, mounts), _agent(attempt)),
            block=spec.rollout.pod,
            volumes=[*volumes, adapters, shm_volume(spec)],
        )
    )


def _vllm(attempt: Attempt, mounts: list[Object]) -> Program:
    spec = attempt.run.spec
    requests = {"cpu": "4", "memory": f"{sizes.size(spec).rollout}Gi"}
    gpus = {attempt.settings.gpu_resource: spec.rollout.tensor_parallel_size}
    return Program(
        "vllm",
        attempt.images["rollout"],
        _serve(attempt),
        sizes.resources(spec.rollout.resources, requests, gpus),
        env=(
            secret.reference(attempt, "VLLM_API_KEY"),
            *(variable(name, value) for name, value in SERVER_ENVIRONMENT.items()),
        ),
        mounts=(
            *mounts,
            {"name": "adapters", "mountPath": _ADAPTERS, "readOnly": True},
            SHM_MOUNT,
        ),
    )


def _serve(attempt: Attempt) -> list[str]:
    """The server's command line."""
    spec = attempt.run.spec
    model = f"{run_directory(attempt.run.uid)}/{_MODEL}"
    trains = attempt.arm is not None and needs.arm_named(attempt.run, attempt.arm).trains
    return ["vllm", *serve_arguments(spec, model, trains), "--host", "127.0.0.1", "--port", str(ports.VLLM)]


def _agent(attempt: Attempt) -> Program:
    adapters = sizes.adapters_mib(attempt.run.spec)
    command = [
        *("unisd", "policy-agent", "--port", str(ports.ROLLOUT), "--metrics-port", str(ports.METRICS)),
        *("--server", f"http://127.0.0.1:{ports.VLLM}", "--adapters", _ADAPTERS),
    ]
    return Program(
        "policy-agent",
        attempt.images["rollout"],
        command,
        sizes.resources(None, {"cpu": "250m", "memory": f"{512 + adapters}Mi"}, {}),
        env=(secret.reference(attempt),),
        mounts=({"name": "adapters", "mountPath": _ADAPTERS},),
        ports={"http": ports.ROLLOUT, "metrics": ports.METRICS},
        probes={
            "startupProbe": _probe("/healthz", periodSeconds=2, failureThreshold=150),
            "livenessProbe": _probe("/healthz", periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
            "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=3, timeoutSeconds=5),
        },
    )


def _probe(path: str, **rest: int) -> Object:
    return {"httpGet": {"path": path, "port": ports.ROLLOUT}, **rest}
