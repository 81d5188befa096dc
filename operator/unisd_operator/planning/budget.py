"""The budgets that keep a drain from taking a pod of a training or of its servers: opt-in. Pure."""

from unisd_operator.api.names import Object, Role
from unisd_operator.planning.metadata import Attempt, make


def budget(attempt: Attempt, role: Role, pods: int) -> Object:
    """All pods of a role, as a number: budgets of Jobs know no `maxUnavailable`."""
    spec = {"minAvailable": pods, "selector": {"matchLabels": attempt.labels(role)}}
    return make(attempt, "policy/v1/PodDisruptionBudget", attempt.name(role), role, {"spec": spec})
