"""Names of a run's children: deterministic, at most 52 characters, never the same for two children of a namespace.

52 leaves room for what Kubernetes appends to a Job's name. The readable form is used where it has one reading alone:
`exp` with component `a-b` and `exp-a` with component `b` would share it, so a hash stands in names of components with a
hyphen, of runs that begin with a digit (a Service's name may not), and where the readable form is too long.
"""

import hashlib

MAX_LENGTH = 52
_MAX_LABEL = 63
_HASH_LENGTH = 7


def child(run: str, arm: str | None, part: str, attempt: int) -> str:
    """Name of a child.

    Args:
        run: name of the run.
        arm: component and seed, e.g. `star-1`; None for what the run's components share.
        part: what it is, e.g. `train`, `policy`, `prepare`.
        attempt: attempt that it belongs to, from 1.
    """
    stem = run if arm is None else f"{run}-{arm}"
    tail = f"-{part}-{attempt}"
    ambiguous = run[0].isdigit() or (arm is not None and "-" in arm.rpartition("-")[0])
    if not ambiguous and len(stem) + len(tail) <= MAX_LENGTH:
        return stem + tail
    head = f"r{stem}" if stem[0].isdigit() else stem
    room = MAX_LENGTH - len(tail) - _HASH_LENGTH - 1
    return f"{head[:room].rstrip('-')}-{_hash(run, arm, part, attempt)}{tail}"


def claim(run: str) -> str:
    """Name of the claim that a run makes: the run's own, so that it is found again when the run is gone."""
    return run


def as_label(name: str) -> str:
    """A name, of up to 253 characters, as the value of a label, which holds 63."""
    if len(name) <= _MAX_LABEL:
        return name
    return f"{name[: _MAX_LABEL - _HASH_LENGTH - 1].rstrip('-.')}-{_hash(name)}"


def _hash(*parts: object) -> str:
    """Seven characters, the first a letter, so that no seed of a component looks like one."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
    return f"h{digest[: _HASH_LENGTH - 1]}"
