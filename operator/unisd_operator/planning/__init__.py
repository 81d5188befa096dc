"""Which Kubernetes objects a run wants now. Pure: no clock, no cluster, no environment."""
