"""The grader: the one place that runs code which a model wrote. Pure.

A Deployment without claim, Secret or way out. Inside it the sandbox of `unisd grader` goes further (docs/sandbox.md).
"""

from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.planning import names, ports, sizes
from unisd_operator.planning.metadata import Attempt, make
from unisd_operator.planning.network import grader_policy
from unisd_operator.planning.pod import PodPlan, Program, template, variable


def grader_objects(attempt: Attempt) -> list[Object]:
    """All that the grader of a run consists of."""
    return [_service(attempt), grader_policy(attempt), _deployment(attempt)]


def address(run: RunResource) -> Object:
    """The environment variable by which stages find the grader."""
    name = names.child(run.name, None, "grader", 1)
    return variable("UNISD_GRADER_SERVICE", f"{name}.{run.namespace}.svc:{ports.GRADER}")


def _service(attempt: Attempt) -> Object:
    port = {"name": "http", "port": ports.GRADER, "targetPort": ports.GRADER, "protocol": "TCP"}
    spec = {"selector": attempt.labels("grader"), "ports": [port]}
    return make(attempt, "v1/Service", attempt.name("grader"), "grader", {"spec": spec})


def _deployment(attempt: Attempt) -> Object:
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": attempt.labels("grader")},
        "template": template(PodPlan(attempt, "grader", programs=(_program(attempt),), block=None, isolated=True)),
    }
    return make(attempt, "apps/v1/Deployment", attempt.name("grader"), "grader", {"spec": spec})


def _program(attempt: Attempt) -> Program:
    probe = {"httpGet": {"path": "/healthz", "port": ports.GRADER}, "periodSeconds": 5, "timeoutSeconds": 5}
    resources = {**sizes.resources(None, {"cpu": "1", "memory": "1Gi"}, {}), "limits": {"memory": "4Gi"}}
    return Program(
        "grader",
        attempt.images["evaluation"],
        ["unisd", "grader", "--port", str(ports.GRADER)],
        resources,
        ports={"http": ports.GRADER},
        probes={"readinessProbe": probe, "livenessProbe": {**probe, "failureThreshold": 12}},
    )
