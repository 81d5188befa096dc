"""Runs on a cluster, from a terminal: applied, looked at, files into and out of claims. Needs the extra `operator`."""
