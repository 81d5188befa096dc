"""Every baseline optimises what its paper defines: the first step's loss, recomputed by hand from full logits.

At the first step the student is the base model (its adapter's product is zero), so both sides of every divergence come
from one model with two prompts. The formulas are written out here, token by token, with nothing of `unisd.objective`.
"""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from unisd.chat import completion_ids, prompt_ids
from unisd.config.resolve import resolve
from unisd.contexts.layout import teacher_messages
from unisd.files import read_json, read_jsonl
from unisd.models import load_tokenizer, stop_ids
from unisd.prepared import load_examples
from unisd.rollouts.transformers_engine import TransformersEngine
from unisd.rollouts.types import Sampling
from unisd.training.on_policy import learns_on_samples
from unisd.training.sampler import StepSampler

pytestmark = pytest.mark.slow

ROWS = 4


@pytest.fixture
def train(make_run, carry_out):
    """Trains one component; gives its arm, its examples in the order of the first step, and its metrics."""

    def trained(component, steps=1, **training):
        run, directory = make_run(ROWS, components=[component], training={"maxSteps": steps, "epochs": 9, **training})
        carry_out(run, directory, "prepare", "contexts", "train")
        (arm,) = resolve(run.spec)
        examples = load_examples(directory.prepared.train)
        order = StepSampler(ROWS, 4, 1, arm.seed).step_rows(0)
        return arm, [examples[row] for row in order], read_jsonl(directory.train(arm.name) / "metrics.jsonl"), directory

    return trained


@pytest.fixture
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


@pytest.fixture
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def samples(model, tokenizer, tiny_model, examples, sampling):
    engine = TransformersEngine(model, stop_ids(tokenizer, tiny_model))
    found = engine.generate([prompt_ids(tokenizer, e.messages) for e in examples], sampling)
    return [list(c.ids) for c in sorted(found, key=lambda c: c.index)]


def log_distributions(model, prompt, completion):
    """log π(· | prompt, y_<t) for every token t of the completion, at temperature 1."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0]
    return logits[len(prompt) - 1 : -1].log_softmax(-1).double()


def reverse_kl(student, teacher):
    return float((student.exp() * (student - teacher)).sum())


def jensen_shannon(student, teacher):
    """½ KL(P‖M) + ½ KL(S‖M), M = ½ S + ½ P."""
    middle = (0.5 * student.exp() + 0.5 * teacher.exp()).log()
    return 0.5 * float((teacher.exp() * (teacher - middle)).sum()) + 0.5 * float(
        (student.exp() * (student - middle)).sum()
    )


def expected_loss(model, tokenizer, examples, completions, divergence, skip=0):
    """Mean over rows of the mean over tokens of the divergence between the bare and the privileged prompt."""
    rows = []
    for example, completion in zip(examples, completions, strict=True):
        shown = teacher_messages(example, example.demonstration, "turns")
        student = log_distributions(model, prompt_ids(tokenizer, example.messages), completion)
        teacher = log_distributions(model, prompt_ids(tokenizer, shown), completion)
        tokens = [divergence(*pair) for pair in zip(student, teacher, strict=True)][skip:]
        if tokens:
            rows.append(sum(tokens) / len(tokens))
    return sum(rows) / len(rows)


def drawn_with(arm, temperature, **truncation):
    return Sampling(temperature, 8, seed=arm.seed * 1_000_003, **truncation)


def test_sdft_is_reverse_kl_to_a_following_teacher_without_the_first_tokens(train, model, tokenizer, tiny_model):
    arm, examples, metrics, _ = train({"name": "sdft", "preset": "sdft"}, steps=2)
    completions = samples(model, tokenizer, tiny_model, examples, drawn_with(arm, 1.0))
    expected = expected_loss(model, tokenizer, examples, completions, reverse_kl, skip=3)
    assert metrics[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert metrics[0]["share_ema"] == pytest.approx(0.0, abs=1e-6) or metrics[0]["share_ema"] < 0.1
    assert 0.0 < metrics[1]["share_ema"] < 0.1


def test_opsd_is_jensen_shannon_to_the_frozen_base_on_truncated_samples(train, model, tokenizer, tiny_model):
    arm, examples, metrics, _ = train({"name": "opsd", "preset": "opsd"}, steps=2)
    completions = samples(model, tokenizer, tiny_model, examples, drawn_with(arm, 1.1, top_p=0.95, top_k=20))
    expected = expected_loss(model, tokenizer, examples, completions, jensen_shannon)
    assert metrics[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert "share_ema" not in metrics[1]


@pytest.mark.parametrize("on_policy", [0.0, 1.0])
def test_gkd_is_jensen_shannon_on_references_or_on_samples(train, model, tokenizer, tiny_model, on_policy):
    component = {"name": "gkd", "preset": "gkd", "sampling": {"onPolicy": on_policy}}
    arm, examples, metrics, _ = train(component)
    completions = [completion_ids(tokenizer, example.demonstration)[:8] for example in examples]
    if on_policy == 1.0:
        completions = samples(model, tokenizer, tiny_model, examples, drawn_with(arm, 1.0))
    expected = expected_loss(model, tokenizer, examples, completions, jensen_shannon)
    assert metrics[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_gkd_mixes_by_step(train):
    arm, _, metrics, _ = train({"name": "gkd", "preset": "gkd"}, steps=8)
    assert [row["on_policy"] for row in metrics] == [float(learns_on_samples(arm, step)) for step in range(8)]
    share = sum(learns_on_samples(arm, step) for step in range(2000)) / 2000
    assert share == pytest.approx(0.5, abs=0.05)
    always = arm.model_copy(update={"sampling": arm.sampling.model_copy(update={"on_policy": 1.0})})
    assert all(learns_on_samples(always, step) for step in range(200))


def test_ssd_is_cross_entropy_on_samples_of_the_base_drawn_once(train, model, tokenizer, tiny_model):
    arm, examples, metrics, directory = train({"name": "ssd", "preset": "ssd"}, steps=2, maxCompletionTokens=8)
    rows = {row["id"]: row["ids"] for row in read_jsonl(directory.contexts / "samples-ssd-1.jsonl")}
    written = load_examples(directory.prepared.train)
    drawn = samples(model, tokenizer, tiny_model, written, drawn_with(arm, 1.5, top_p=0.8, top_k=20))
    assert rows == {example.id: ids for example, ids in zip(written, drawn, strict=True)}
    nats, tokens = 0.0, 0
    for example in examples:
        found = log_distributions(model, prompt_ids(tokenizer, example.messages), rows[example.id])
        for token, distribution in zip(rows[example.id], found, strict=True):
            nats, tokens = nats - float(distribution[token]), tokens + 1
            assert int((distribution > distribution[token]).sum()) < 20
    assert metrics[0]["loss"] == pytest.approx(nats / tokens, rel=1e-4)
    assert read_json(directory.contexts / "contexts.json")["samples-ssd-1"] == {"drawn": 4, "cut": 0, "short": 0}
    assert math.isfinite(metrics[1]["loss"])
