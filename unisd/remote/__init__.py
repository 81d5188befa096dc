"""A run on a cluster, seen from a terminal: its table and its logs. Needs the extra `operator`, and no torch."""
