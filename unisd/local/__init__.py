"""The local runner: a run's stages as processes on one machine."""
