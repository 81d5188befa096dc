"""Names of every metric, and how they leave a process."""
