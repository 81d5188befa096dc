"""What the manifest's language already names and this release does not yet run.

The one list of its kind: a run that needs an entry is refused with its message, before anything is computed. An entry
goes when its capability arrives; the list ends empty.
"""

PLANNED: dict[str, str] = {}

ON_ONE_MACHINE: dict[str, str] = {
    "source:configMap": "is what a cluster has: give path",
    "model:claim": "is what a cluster has: give path",
}
"""What only a cluster can do, so far or by its nature."""
