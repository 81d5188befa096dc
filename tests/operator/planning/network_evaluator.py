"""Which flows a set of NetworkPolicies lets through: the semantics of networking.k8s.io/v1, over objects as they are planned.

A pod that no policy selects for a direction is open in it. One that is selected lets in, or out, what any rule of its
policies lists. A flow needs both ends. Namespaces are known by their labels; addresses outside the cluster by CIDR.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """A pod, or an address outside the cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    address: str = ""
    """Of an end outside the cluster, and of pods where it matters."""

    @property
    def outside(self) -> bool:
        return not self.namespace


class Evaluator:
    """Answers for one set of policies.

    Args:
        policies: NetworkPolicies.
        namespaces: labels of each namespace.
    """

    def __init__(self, policies: Iterable[Object], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self._policies = [policy for policy in policies if policy["kind"] == "NetworkPolicy"]
        self._namespaces = namespaces

    def allows(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection from `source` to a port of `target` is let through at both ends."""
        out = source.outside or self._passes(source, target, port, protocol, "Egress")
        return out and (target.outside or self._passes(target, source, port, protocol, "Ingress"))

    def _passes(self, pod: End, peer: End, port: int, protocol: str, direction: str) -> bool:
        chosen = [policy for policy in self._policies if self._selects(policy, pod, direction)]
        if not chosen:
            return True
        rules = [(policy, rule) for policy in chosen for rule in policy["spec"].get(direction.lower()) or []]
        return any(self._rule(policy, rule, peer, port, protocol, direction) for policy, rule in rules)

    def _selects(self, policy: Object, pod: End, direction: str) -> bool:
        spec = policy["spec"]
        here = policy["metadata"]["namespace"] == pod.namespace
        return here and direction in spec["policyTypes"] and selected(spec["podSelector"], pod.labels)

    def _rule(self, policy: Object, rule: Object, peer: End, port: int, protocol: str, direction: str) -> bool:
        peers = rule.get("from" if direction == "Ingress" else "to")
        ports = rule.get("ports")
        by_port = not ports or any(_port(one, port, protocol) for one in ports)
        return by_port and (not peers or any(self._peer(policy, one, peer) for one in peers))

    def _peer(self, policy: Object, rule: Object, peer: End) -> bool:
        if "ipBlock" in rule:
            return _in_block(rule["ipBlock"], peer.address)
        if peer.outside:
            return False
        if "namespaceSelector" in rule:
            near = selected(rule["namespaceSelector"], self._namespaces[peer.namespace])
        else:
            near = peer.namespace == policy["metadata"]["namespace"]
        return near and selected(rule.get("podSelector", {}), peer.labels)


def selected(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; the empty one matches everything."""
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(_expression(one, labels) for one in selector.get("matchExpressions", []))


def _expression(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", [])
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(other)


def _port(rule: Object, port: int, protocol: str) -> bool:
    if rule.get("protocol", "TCP") != protocol:
        return False
    return "port" not in rule or rule["port"] <= port <= rule.get("endPort", rule["port"])


def _in_block(block: Object, address: str) -> bool:
    if not address:
        return False
    ip = ipaddress.ip_address(address)
    excluded: Sequence[str] = block.get("except", [])
    return ip in ipaddress.ip_network(block["cidr"]) and not any(ip in ipaddress.ip_network(one) for one in excluded)
