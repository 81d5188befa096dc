"""The operator's process: `unisd-operator`, or `python -m unisd_operator`."""


def main() -> None:
    """Watches and reconciles until it is told to end."""
    raise NotImplementedError
