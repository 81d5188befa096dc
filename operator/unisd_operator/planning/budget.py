"""The budget that keeps a drain from taking one pod of a training: opt-in. Pure."""

from unisd_operator.planning.metadata import Attempt, Object, make


def budget(attempt: Attempt) -> Object:
    """All pods of the training, as a number: budgets of Jobs know no `maxUnavailable`."""
    selector = {"matchLabels": attempt.labels("train")}
    spec = {"minAvailable": attempt.run.spec.trainer.num_nodes, "selector": selector}
    return make(attempt, "policy/v1/PodDisruptionBudget", attempt.name("train"), "train", {"spec": spec})
