"""Experiments by the names and flags of the research code: from flags to manifests, and manifests on a pool of GPUs."""
