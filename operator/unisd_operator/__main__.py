"""The operator's process: `unisd-operator`, or `python -m unisd_operator`."""

import argparse
import asyncio
import logging
from pathlib import Path

from unisd_operator.process import operate
from unisd_operator.settings import Settings, read_settings


def main() -> None:
    """Watches and reconciles until it is told to end."""
    parser = argparse.ArgumentParser(
        prog="unisd-operator",
        description="Reconciles SelfDistillRun resources, in its own cluster or the one that KUBECONFIG names.",
    )
    parser.add_argument("--settings", type=Path, help="YAML file with the settings (docs/operator/install.md)")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    arguments = parser.parse_args()
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(operate(read_settings(arguments.settings) if arguments.settings else Settings()))


if __name__ == "__main__":
    main()
