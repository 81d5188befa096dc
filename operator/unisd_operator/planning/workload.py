"""What Kueue is asked for: one Workload a component, with all pods that it will ever run at once. Pure.

Children carry no queue labels. The Workload is the operator's: it stops the pods of an evicted one, then releases it.
"""

from collections.abc import Sequence
from typing import Any

from unisd.config.resolve import Arm
from unisd.config.serving import evaluates_on_servers
from unisd_operator.api.names import Object
from unisd_operator.planning import rollout, stage_job, trainer
from unisd_operator.planning.metadata import Attempt, hashed, make

KIND = "kueue.x-k8s.io/v1beta2/Workload"


def workload(attempt: Attempt, arm: Arm, active: bool) -> Object:
    """The Workload of an attempt. While it lives only `active` may change: an inactive one gives its quota back."""
    spec = {
        "queueName": attempt.run.spec.queue_name,
        "active": active,
        "podSets": pod_sets(attempt, arm),
        **_priority(attempt),
    }
    planned = make(attempt, KIND, attempt.name("queue"), "queue", {"spec": spec})
    return hashed(planned, over=active)


def pod_sets(attempt: Attempt, arm: Arm) -> Sequence[Object]:
    """Rollout servers and trainers, from the templates that run. What evaluates by itself takes the trainer's place."""
    spec = attempt.run.spec
    sets = []
    if evaluates_on_servers(spec, arm):
        sets.append(_pod_set("rollout", spec.rollout.replicas, rollout.pod_template(attempt)))
    if arm.trains:
        sets.append(_pod_set("trainer", spec.trainer.num_nodes, trainer.pod_template(attempt)))
    if not sets:
        template = stage_job.pod_template(attempt, "evaluate", "evaluation", [])
        sets.append(_pod_set("evaluate", 1, template))
    return sets


def _pod_set(name: str, count: int, template: Object) -> Object:
    return {"name": name, "count": count, "template": template}


def _priority(attempt: Attempt) -> dict[str, Any]:
    """The trainer's PriorityClass with its value, which Kueue wants beside the name, if the installation knows it."""
    blocks = (attempt.run.spec.trainer.pod, attempt.settings.pod)
    name = next((block.priority_class_name for block in blocks if block and block.priority_class_name), None)
    if name is None or name not in attempt.settings.priorities:
        return {}
    reference = {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": name}
    return {"priorityClassRef": reference, "priority": attempt.settings.priorities[name]}
