"""Names that the operator, its children and its users share: the resource, labels, roles."""

from typing import Literal

GROUP = "unisd.dev"
VERSION = "v1alpha1"
PLURAL = "selfdistillruns"
KIND = "SelfDistillRun"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "unisd-operator"

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label of every child, with the value of FIELD_MANAGER; what the operator watches by."""
RUN_UID = f"{GROUP}/run-uid"
"""Label of every child: uid of the run. Children of one run are found by it, never by name."""
RUN = f"{GROUP}/run"
ARM = f"{GROUP}/arm"
"""Label: component with its seed, e.g. `star-1`; absent on children that the run's components share."""
STAGE = f"{GROUP}/stage"
"""Label of what the run's components share, e.g. `prepare`, `report` or `grader`; absent where ARM is there."""
ROLE = f"{GROUP}/role"
ATTEMPT = f"{GROUP}/attempt"
OPERATOR_VERSION = f"{GROUP}/operator-version"
CLAIM = f"{GROUP}/claim"
"""Label of pods that mount a ReadWriteOnce claim: its name. They run on one node."""
HASH = f"{GROUP}/hash"
"""Annotation: hash of the object as it was planned; an apply is sent only when it differs."""

Role = Literal[
    "prepare",
    "contexts",
    "rollout",
    "train",
    "evaluate",
    "report",
    "push",
    "grader",
    "storage",
    "results",
    "config",
    "queue",
]
"""What a child is for; pods and the objects around them carry it as the label ROLE."""
