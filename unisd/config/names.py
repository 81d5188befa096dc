"""What the resource is called, and the labels of its children by which they are found.

Set by the operator, whose `api.names` has those that are its alone beside them; looked for by `unisd.remote`.
"""

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
