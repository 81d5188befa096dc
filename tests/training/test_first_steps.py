"""Steps of UniSD recomputed by hand from full logits: what the trainer feeds to the objective is what it should be.

With a learning rate near zero the student stays the base model, so that every step can be recomputed from its weights.
The formulas are written out here, token by token, with nothing of `unisd.objective`.
"""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from unisd.chat import prompt_ids
from unisd.config.resolve import resolve
from unisd.contexts.layout import auxiliary_messages, teacher_messages
from unisd.files import read_json, read_jsonl, write_jsonl
from unisd.models import load_tokenizer, stop_ids
from unisd.prepared import load_examples
from unisd.rollouts.transformers_engine import TransformersEngine
from unisd.rollouts.types import Sampling
from unisd.training.sampler import StepSampler

pytestmark = pytest.mark.slow
ROWS, TEMPERATURE = 4, 0.7
WRONG = "Reasoning: It cannot be otherwise.\nAnswer: E"
STAR = {"name": "it", "preset": "unisd_star", "contexts": {"source": "random"}}


@pytest.fixture
def by_hand(tiny_model, make_run, carry_out):
    """Trains two steps of a component; gives their metrics, and every row of each step as plain values."""

    def made(component, **training):
        training = {"maxSteps": 2, "epochs": 2, "learningRate": 1e-12, **training}
        run, directory = make_run(ROWS + 2, components=[component], task={"maxTrainExamples": ROWS}, training=training)
        carry_out(run, directory, "prepare", "contexts")
        examples = load_examples(directory.prepared.train)
        negatives = [{"id": example.id, "demonstration": WRONG} for example in examples[:-1]]
        if component is STAR:
            write_jsonl(directory.contexts / "negatives.jsonl", negatives)
        carry_out(run, directory, "train")
        base = Base(tiny_model)
        (arm,) = resolve(run.spec)
        steps = []
        for number in range(2):
            order = [examples[row] for row in StepSampler(ROWS, ROWS, 2, arm.seed).step_rows(number)]
            steps.append(base.rows(order, arm.seed * 1_000_003 + number, directory, {n["id"] for n in negatives}))
        return read_jsonl(directory.train("it-1") / "metrics.jsonl"), steps

    return made


class Base:
    """The model that stays as it is: its samples, and what it says of them under every context."""

    def __init__(self, path):
        self.path, self.tokenizer = path, load_tokenizer(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def rows(self, examples, seed, directory, with_negative):
        prompts = [prompt_ids(self.tokenizer, example.messages) for example in examples]
        engine = TransformersEngine(self.model, stop_ids(self.tokenizer, self.path))
        found = sorted(engine.generate(prompts, Sampling(TEMPERATURE, 8, seed)), key=lambda c: c.index)
        pool = {example.id: example for example in load_examples(directory.prepared.pool)}
        neighbours = directory.prepared.neighbours("random")
        donors = read_json(neighbours) if neighbours.is_file() else {}
        return [
            self._row(example, list(completion.ids), [pool[donor] for donor in donors.get(example.id, [])[:3]],
                      example.id in with_negative)
            for example, completion in zip(examples, found, strict=True)
        ]  # fmt: skip

    def _row(self, example, ids, donors, has_negative):
        student = self._under(example.messages, ids)
        teacher = self._under(teacher_messages(example, example.demonstration, "turns"), ids)
        contexts = [self._under(auxiliary_messages(example, [donor], "turns"), ids).logp for donor in donors]
        negative = self._under(teacher_messages(example, WRONG, "turns"), ids).logp if has_negative else None
        s, p = ((z / TEMPERATURE).log_softmax(-1) for z in (student.logits, teacher.logits))
        return SimpleNamespace(
            divergence=(p.exp() * (p - s)).sum(-1),
            variance=torch.stack(contexts).var(0, correction=0) if contexts else None,
            variance_of_means=torch.stack(contexts).mean(1).var(correction=0) if contexts else None,
            hinge=None if negative is None else torch.relu(
                0.5 + (student.logp - teacher.logp).abs() - (student.logp - negative).abs()
            ),
            distance=((student.hidden - teacher.hidden) ** 2).mean(-1),
            surprisal=-float(student.logp.mean()),
        )  # fmt: skip

    @torch.no_grad()
    def _under(self, messages, ids):
        prompt = prompt_ids(self.tokenizer, messages)
        output = self.model(torch.tensor([[*prompt, *ids]]), output_hidden_states=True)
        where = slice(len(prompt) - 1, -1)
        logits = output.logits[0, where].double()
        logp = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        return SimpleNamespace(logits=logits, logp=logp, hidden=output.hidden_states[-1][0, where].double())


def mean(values):
    values = list(values)
    return float(sum(values) / len(values))


def weighted(rows, weights):
    return mean((w * row.divergence).sum() / w.sum() for row, w in zip(rows, weights, strict=True))


def token_weights(row):
    return 1 / (1 + row.variance)


def extras(rows):
    return 0.1 * mean(row.hinge.mean() for row in rows if row.hinge is not None) + 0.1 * mean(
        row.distance.mean() for row in rows
    )


def test_all_mechanisms_at_once(by_hand):
    metrics, steps = by_hand(STAR)
    for told, rows in zip(metrics, steps, strict=True):
        assert told["loss"] == pytest.approx(weighted(rows, map(token_weights, rows)) + extras(rows), rel=2e-4)
        assert told["contrastive_rows_share"] == 0.75
        assert told["agreement_weight"] < 0.99
    assert metrics[0]["loss"] != pytest.approx(metrics[1]["loss"], rel=1e-3), "every step samples anew"


def test_sequences_are_weighed_whole(by_hand):
    agreement = {"level": "sequence", "gamma": 300.0}
    metrics, steps = by_hand({"name": "it", "agreement": agreement, "contexts": {"source": "random"}})
    for told, rows in zip(metrics, steps, strict=True):
        weights = [float(torch.exp(-300.0 * row.variance_of_means)) for row in rows]
        losses = [float(row.divergence.mean()) for row in rows]
        weighed = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
        assert told["loss"] == pytest.approx(weighed, rel=1e-3)
        assert told["loss"] != pytest.approx(mean(losses), rel=5e-3)


def test_the_gate_scores_the_surprising_half_and_leaves_the_others_their_weight(by_hand):
    agreement = {"gamma": 1.0, "gate": {"quantile": 0.5}}
    metrics, steps = by_hand({"name": "it", "agreement": agreement, "contexts": {"source": "random"}})
    for told, rows in zip(metrics, steps, strict=True):
        middle = sorted(row.surprisal for row in rows)[1:3]
        weights = [
            token_weights(row) if row.surprisal > sum(middle) / 2 else torch.ones_like(row.variance) for row in rows
        ]
        assert told["loss"] == pytest.approx(weighted(rows, weights), rel=2e-4)
        assert told["agreement_scored_share"] == 0.5
        scored = torch.cat([row.variance for row in rows if row.surprisal > sum(middle) / 2])
        assert told["agreement_disagreement"] == pytest.approx(float(scored.mean()), rel=2e-3)


def test_a_quantile_clips_the_following_step_and_first_tokens_may_be_left_out(by_hand):
    metrics, steps = by_hand({"name": "it", "clip": {"quantile": 0.5}}, lossTokensToSkip=2)
    bound = None
    for told, rows in zip(metrics, steps, strict=True):
        kept = [row.divergence[2:] for row in rows if len(row.divergence) > 2]
        clipped = [values if bound is None else values.clamp(max=bound) for values in kept]
        assert told["loss"] == pytest.approx(mean(values.mean() for values in clipped), rel=2e-4)
        bound = float(torch.cat(kept).quantile(0.5))
    assert metrics[1]["clip_share"] > 0.2


def test_a_value_clips_every_step(by_hand):
    metrics, steps = by_hand({"name": "it", "clip": {"value": 3.0}})
    for told, rows in zip(metrics, steps, strict=True):
        assert told["loss"] == pytest.approx(mean(row.divergence.clamp(max=3.0).mean() for row in rows), rel=2e-4)
        assert 0 < told["clip_share"] < 1
