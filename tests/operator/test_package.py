"""The operator's package: where it lies, and how little it needs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "trl", "numpy", "datasets", "vllm", "deepspeed", "kubernetes.client.models.v1_pod")


def test_operator_is_no_package() -> None:
    """An `operator/__init__.py` would take the place of the standard library's `operator`."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_the_operator_loads_nothing_heavy() -> None:
    """Nor the synchronous client of Kubernetes, whose models alone are 100 MB."""
    code = f"import sys, unisd_operator.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
