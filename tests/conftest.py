"""Shared fixtures: a tiny real model, and runs prepared on real rows."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import pytest

from unisd.config.load import parse_run
from unisd.config.names import API_VERSION, KIND
from unisd.config.run import SelfDistillRun
from unisd.job import Job, stage_function
from unisd.rundir import RunDir
from unisd.stages import stages

pytest_plugins = ["tests.cluster.plugin"]

EXAMPLES = Path(__file__).parents[1] / "examples"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 model of a few hundred thousand parameters with tokenizer and chat template."""
    spec = importlib.util.spec_from_file_location("make_tiny_model", EXAMPLES / "make_tiny_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own."""
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Real CoS-E rows of the examples."""
    with (EXAMPLES / "data/cos_e/train.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file][first : first + count]


def document(spec: dict[str, Any], name: str = "test") -> dict[str, Any]:
    """A manifest with this spec."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def manifest(model: Path, data: Path, **spec: Any) -> dict[str, Any]:
    """A small manifest; keyword arguments replace or extend blocks of the spec."""
    base: dict[str, Any] = {
        "model": {"path": str(model), "lora": {"rank": 4, "alpha": 8}},
        "task": {"name": "cos_e", "source": {"path": str(data)}},
        "contexts": {
            "layout": "turns",
            "retriever": "bm25",
            "count": 2,
            "maxGeneratedTokens": 8,
            "maxMissingNegatives": 1.0,
        },
        "rollout": {"engine": "transformers"},
        "training": {
            "learningRate": 1e-2,
            "perDeviceBatchSize": 2,
            "gradientAccumulationSteps": 2,
            "maxPromptTokens": 1500,
            "maxCompletionTokens": 8,
            "maskTruncated": False,
            "precision": "float32",
            "threads": 1,
        },
        "components": [{"name": "star", "preset": "unisd_star"}],
    }
    for name, value in spec.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) and name in base else value
    return document(base)


@pytest.fixture
def make_run(tiny_model: Path, tmp_path: Path, cache: Path) -> Callable[..., tuple[SelfDistillRun, RunDir]]:
    """A run on a few real rows, and its directory; `train_rows` and `eval_rows` say how many."""

    def make(train_rows: int = 10, eval_rows: int = 4, **spec: Any) -> tuple[SelfDistillRun, RunDir]:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        for name, found in (("train", rows(train_rows)), ("validation", rows(eval_rows, first=200))):
            text = "".join(json.dumps(row) + "\n" for row in found)
            (data / f"{name}.jsonl").write_text(text, encoding="utf-8")
        run = parse_run(manifest(tiny_model, data, **spec))
        return run, RunDir(tmp_path / "run")

    return make


@pytest.fixture
def carry_out() -> Callable[..., None]:
    """Carries out the stages of a run in this process, those whose names begin as given."""

    def carry(run: SelfDistillRun, directory: RunDir, *names: str) -> None:
        for stage in stages(run, {}):
            if any(stage.name.startswith(name) for name in names):
                stage_function(stage.kind)(Job(run, directory, stage.arm))

    return carry
