"""Names that the operator and its children share, and what it calls an object.

Names that users look for too stand in `unisd.config.names`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from unisd.config.names import API_VERSION, ARM, ATTEMPT, CLAIM, GROUP, KIND, PLURAL, ROLE, RUN_UID, VERSION

__all__ = [
    "API_VERSION",
    "ARM",
    "ATTEMPT",
    "CLAIM",
    "FIELD_MANAGER",
    "GROUP",
    "HASH",
    "KIND",
    "MANAGED_BY",
    "OPERATOR_VERSION",
    "PLURAL",
    "ROLE",
    "RUN",
    "RUN_UID",
    "STAGE",
    "VERSION",
    "Object",
    "Role",
]

Object = Mapping[str, Any]
"""An object as the API server takes and sends it: plain data."""

FIELD_MANAGER = "unisd-operator"

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label of every child, with the value of FIELD_MANAGER; what the operator watches by."""
RUN = f"{GROUP}/run"
STAGE = f"{GROUP}/stage"
"""Label of what the run's components share, e.g. `prepare`, `report` or `grader`; absent where ARM is there."""
OPERATOR_VERSION = f"{GROUP}/operator-version"
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
