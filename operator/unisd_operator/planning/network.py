"""NetworkPolicies: one for each kind of pod of an attempt, both directions. Pure.

What is not listed here is denied. Progress and metrics are read by the operator and by whom its settings name. Only
preparation, the push to a hub, and a trainer that reports to a tracker reach beyond the cluster.
"""

from collections.abc import Sequence
from typing import Any

from unisd.config.serving import trains_on_servers
from unisd_operator.api import names as api
from unisd_operator.api.names import Object
from unisd_operator.planning import needs, ports
from unisd_operator.planning.metadata import Attempt, make

# 5353 is where DNS pods of OpenShift listen, behind port 53 of their Service.
_DNS: Object = {"ports": [{"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP")]}
# Clouds hand out credentials of nodes at link-local addresses, and AWS and Google over IPv6 at these.
_INTERNET: Object = {
    "to": [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128"]}},
    ]
}


def rollout_policy(attempt: Attempt) -> Object:
    """Servers of a component: from its own trainer and evaluator, of a shared stage from that; nothing outwards."""
    clients: list[api.Role] = ["evaluate"] if attempt.arm else ["contexts"]
    if attempt.arm and _samples(attempt):
        clients.append("train")
    return _policy(attempt, "rollout", [_from_roles(attempt, clients, ports.ROLLOUT), *_metrics(attempt)], [])


def trainer_policy(attempt: Attempt) -> Object:
    """Pods of a training among each other on all ports (rendezvous, NCCL, gloo), and to their servers."""
    peers = _pods(attempt.labels("train"))
    spec = attempt.run.spec
    outwards = [_DNS, {"to": [peers]}]
    outwards += [_to_servers(attempt)] if _samples(attempt) else []
    outwards += [_to_grader(attempt)] if needs.grades_while_training(spec) else []
    outwards += [_INTERNET] if needs.has_tracker(spec) else []
    return _policy(attempt, "train", [{"from": [peers]}, *_metrics(attempt)], outwards)


def client_policy(attempt: Attempt, role: api.Role) -> Object:
    """A stage that asks rollout servers and the grader: evaluation, contexts."""
    spec = attempt.run.spec
    outwards = [_DNS]
    outwards += [_to_servers(attempt)] if needs.asks_servers(attempt.run, attempt.arm) else []
    outwards += [_to_grader(attempt)] if needs.uses_grader(spec) else []
    return _policy(attempt, role, _metrics(attempt), outwards)


def outward_policy(attempt: Attempt, role: api.Role) -> Object:
    """A stage that reaches the hub: it fetches models and data, or pushes what was trained."""
    return _policy(attempt, role, _metrics(attempt), [_DNS, _INTERNET])


def closed_policy(attempt: Attempt, role: api.Role) -> Object:
    """A stage that works on the claim alone: report, results."""
    return _policy(attempt, role, _metrics(attempt), [])


def grader_policy(attempt: Attempt) -> Object:
    """The grader answers whoever has generated code of this run, and reaches nothing itself."""
    roles = ["contexts", "evaluate", *(["train"] if needs.grades_while_training(attempt.run.spec) else [])]
    inwards = {
        "from": [_pods({api.RUN_UID: attempt.run.uid, api.ROLE: role}) for role in roles],
        "ports": [_port(ports.GRADER)],
    }
    return _policy(attempt, "grader", [inwards], [])


def _policy(attempt: Attempt, role: api.Role, inwards: Sequence[Object], outwards: Sequence[Object]) -> Object:
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": attempt.labels(role)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(inwards),
        "egress": list(outwards),
    }
    return make(attempt, "networking.k8s.io/v1/NetworkPolicy", attempt.name(role), role, {"spec": spec})


def _metrics(attempt: Attempt) -> list[Object]:
    """The rule that lets the operator, and whom the installation names, read metrics and progress."""
    network = attempt.settings.network
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": network.operator_namespace}}}
    return [{"from": [operator, *network.metrics_from], "ports": [_port(ports.METRICS)]}]


def _from_roles(attempt: Attempt, roles: Sequence[api.Role], port: int) -> Object:
    return {"from": [_pods(attempt.labels(role)) for role in roles], "ports": [_port(port)]}


def _to_servers(attempt: Attempt) -> Object:
    return {"to": [_pods(attempt.labels("rollout"))], "ports": [_port(ports.ROLLOUT)]}


def _to_grader(attempt: Attempt) -> Object:
    labels = {api.RUN_UID: attempt.run.uid, api.ROLE: "grader"}
    return {"to": [_pods(labels)], "ports": [_port(ports.GRADER)]}


def _samples(attempt: Attempt) -> bool:
    return trains_on_servers(attempt.run.spec, needs.arm_named(attempt.run, attempt.arm))


def _pods(labels: dict[str, str]) -> Object:
    return {"podSelector": {"matchLabels": labels}}


def _port(number: int) -> Object:
    return {"protocol": "TCP", "port": number}
