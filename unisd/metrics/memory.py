"""How much memory a process took."""

import resource

import torch


def peak_memory_gib() -> float:
    """Largest memory so far, in GiB: of the accelerator if there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
