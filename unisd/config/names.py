"""What UniSD is called on a cluster: the resource, labels of its children, images, places in a run's claim.

Given by the operator, whose `api.names` has the labels that are its alone beside them; looked for by `unisd.remote`.
"""

from unisd import __version__

GROUP = "unisd.dev"
VERSION = "v1alpha1"
PLURAL = "selfdistillruns"
KIND = "SelfDistillRun"
API_VERSION = f"{GROUP}/{VERSION}"

RUN_UID = f"{GROUP}/run-uid"
"""Label of every child: uid of the run. Children of one run are found by it, never by name."""
ARM = f"{GROUP}/arm"
"""Label: component with its seed, e.g. `star-1`; absent on children that the run's components share."""
ROLE = f"{GROUP}/role"
"""Label: what the child is for."""
ATTEMPT = f"{GROUP}/attempt"
"""Label: number of the attempt that it belongs to."""
CLAIM = f"{GROUP}/claim"
"""Label of pods that mount a ReadWriteOnce claim: its name. They run on one node."""

TRAINER_IMAGE = f"ghcr.io/unisd/trainer:{__version__}"
ROLLOUT_IMAGE = f"ghcr.io/unisd/rollout:{__version__}"
"""This release's images, for runs and installations that name none."""

CLAIM_ROOT = "/data"
"""Where pods mount a run's claim."""


def run_directory(uid: str) -> str:
    """Where a run's files lie, as pods see it."""
    return f"{CLAIM_ROOT}/runs/{uid}"
