"""What a trained component leaves: a PEFT directory that loads as it is, with a card that says what it is."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.conftest import document
from unisd.card import model_card
from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.config.task import EVALUATION_ONLY, Task, TaskName
from unisd.files import read_json, write_json
from unisd.job import Job
from unisd.prepared import Prepared
from unisd.rundir import RunDir
from unisd.sealed import fault_of
from unisd.tasks.catalog import task_for
from unisd.training.export import name_base

SCORES = [{"task": "gsm8k", "metric": "accuracy", "score": 0.5, "low": 0.4, "high": 0.6, "items": 100}]


def head_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def job(tmp_path, **spec):
    base = {
        "model": {"name": "org/base"},
        "task": {"name": "gsm8k"},
        "rollout": {"engine": "transformers"},
        "components": [{"name": "star", "preset": "unisd_star"}],
        **spec,
    }
    run = parse_run(document(base, "exp"))
    return Job(run, RunDir(tmp_path), resolve(run.spec)[0])


def prepared(tmp_path, readme=None):
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    values = {"model": {"source": "org/base"}, "train": {"rows": 7}, "revisions": {"rows": "f" * 64}}
    return Prepared(tmp_path, "abc123", values)


def test_the_card_of_a_model_from_the_hub(tmp_path):
    card = model_card(job(tmp_path), prepared(tmp_path, "---\nlicense: apache-2.0\n---\n# Base\n"), SCORES)
    assert head_of(card) == {
        "library_name": "peft",
        "base_model": "org/base",
        "datasets": ["openai/gsm8k"],
        "tags": ["unisd", "self-distillation", "unisd"],
    }
    assert "| base model | org/base | revision `abc123` | apache-2.0 |" in card
    assert "7 rows of openai/gsm8k | content `ffffffffffffffff` | MIT |" in card
    assert "| gsm8k | accuracy | 0.5 | 0.4 to 0.6 | 100 |" in card
    assert yaml.safe_load(card.split("```yaml\n")[1].removesuffix("```\n"))["preset"] == "unisd_star"


def test_before_its_evaluation_a_card_has_no_scores(tmp_path):
    assert "Evaluation" not in model_card(job(tmp_path), prepared(tmp_path))


@pytest.mark.parametrize("readme", [None, "# no head", "---\n- a list\n---\n", "---\nlicense: [\n---\n"])
def test_a_base_model_that_says_no_licence(tmp_path, readme):
    assert "| see there |" in model_card(job(tmp_path), prepared(tmp_path, readme))


def test_rows_of_another_repository_are_named(tmp_path):
    card = model_card(job(tmp_path, task={"name": "gsm8k", "source": {"hub": "me/mine"}}), prepared(tmp_path))
    assert head_of(card)["datasets"] == ["me/mine"]


@pytest.mark.parametrize("name", sorted(set(get_args(TaskName)) - EVALUATION_ONLY - {"custom"}))
def test_every_task_that_trains_tells_its_rows_licence(name):
    assert task_for(Task(name=name)).hub.licence


def test_rows_of_ones_own_have_their_own_licence(tmp_path):
    own = {"name": "custom", "source": {"path": str(tmp_path / "rows.jsonl")}}
    card = model_card(job(tmp_path, task=own), prepared(tmp_path))
    assert "datasets" not in head_of(card)
    assert "7 rows of a file | content `ffffffffffffffff` | that of your own rows |" in card


@pytest.mark.slow
def test_a_trained_component_loads_and_tells_its_scores(make_run, carry_out):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    run, directory = make_run(4, components=[{"name": "sft", "preset": "sft"}])
    carry_out(run, directory, "prepare", "train", "evaluate")
    adapter: Path = directory.trained("sft-1") / "adapter"
    card = (adapter / "README.md").read_text()
    scores = read_json(directory.evaluated("sft-1") / "evaluation.json")["scores"]
    assert all(f"| {score['task']} | {score['metric']} | {score['score']:.4g} |" in card for score in scores)
    assert fault_of(adapter) is None
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    assert model(**tokenizer("hello", return_tensors="pt")).logits.isfinite().all()


def test_an_adapter_names_its_base_as_the_hub_does(tmp_path):
    """Training reads the model from a folder, which is nowhere else."""
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": "/data/cache/x", "r": 4})
    name_base(tmp_path, None, "abc")
    assert read_json(tmp_path / "adapter_config.json")["base_model_name_or_path"] == "/data/cache/x"
    name_base(tmp_path, "org/base", "abc")
    assert read_json(tmp_path / "adapter_config.json") == {
        "base_model_name_or_path": "org/base",
        "revision": "abc",
        "r": 4,
    }
