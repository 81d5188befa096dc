"""No knob without a reader, and no generated file that drifted."""

import subprocess
import sys
from pathlib import Path

from unisd.config import cluster, reference
from unisd.config.base import Config
from unisd.config.run import RunSpec

ROOT = Path(__file__).parents[2]
# Read on a cluster only; the reference marks them so.
CLUSTER = {"queue_name", "suspend", "backoff_limit", "pre_running_deadline_seconds", "progress_deadline_seconds",
           "ttl_seconds_after_finished", "outputs", "storage", "trainer", "preparation", "namespace",
           "labels", "annotations"}  # fmt: skip


def test_every_field_is_read_somewhere():
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "unisd").rglob("*.py"))
    for _, model in reference._blocks("spec", RunSpec):
        if model.__module__ == cluster.__name__:
            continue
        for name in set(model.model_fields) - CLUSTER - set(cluster.Container.model_fields):
            readers = (
                code.count(f".{name}") + code.count(f'"{name}"') + code.count(f'"{model.model_fields[name].alias}"')
            )
            assert readers > 0, f"{model.__name__}.{name} is read nowhere"


def test_every_field_is_described():
    for _, model in reference._blocks("spec", RunSpec):
        assert issubclass(model, Config)
        undescribed = [name for name, field in model.model_fields.items() if not field.description]
        assert not undescribed, f"{model.__name__}: {undescribed}"


def test_generated_files_are_current(tmp_path):
    reference.main(tmp_path)
    for name in ("manifest.md", "schema.json"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_operator_is_no_package():
    """With it, the folder would shadow the standard library's module and break the interpreter."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_lock_files_name_no_hosts():
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom unisd.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "transformers", "trl", "pydantic", "yaml", "rich", "numpy"}


def test_validating_needs_no_torch():
    script = "import sys\nfrom pathlib import Path\nfrom unisd.config.load import load_run\nfrom unisd.stages import stages\n"
    script += f"stages(load_run(Path({str(ROOT / 'examples/tiny.yaml')!r})), {{}})\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "trl", "numpy", "datasets"}
