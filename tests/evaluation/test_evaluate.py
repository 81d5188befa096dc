"""The evaluation stage: what a run measures on request, from its stage to its report and its status."""

import json
import shutil

import pytest

from unisd.chat import prompt_ids
from unisd.evaluation import evaluate
from unisd.evaluation.generate import Generated
from unisd.execution.termination import result_of
from unisd.files import read_json, read_jsonl
from unisd.job import Job
from unisd.models import load_tokenizer
from unisd.stages import stages
from unisd.tasks.types import Message

SFT = {"name": "sft", "preset": "sft"}
RAW = {"name": "raw", "preset": "raw"}
MEASURED = {"divergence": True, "samples": 3, "passes": [1, 3], "perplexity": False}


@pytest.mark.slow
def test_divergence_and_pass_at_k_of_a_run(make_run, carry_out):
    run, directory = make_run(
        4, eval_rows=3, components=[RAW, SFT], training={"maxSteps": 1, "learningRate": 0.1}, evaluation=MEASURED
    )
    carry_out(run, directory, "prepare", "train", "evaluate", "report")
    items = {name: read_jsonl(directory.evaluate(name) / "items-cos_e.jsonl") for name in ("raw-1", "sft-1")}
    assert all(item["samples"] == 3 and 0 <= item["right"] <= 3 for found in items.values() for item in found)
    assert all(item["divergence"] > 0 for item in items["sft-1"])
    assert "divergence" not in items["raw-1"][0], "it is the base"
    assert "goldNats" not in items["sft-1"][0]
    components = read_json(directory.report / "report.json")["tasks"]["cos_e"]["components"]
    mean = sum(item["divergence"] for item in items["sft-1"]) / 3
    assert components["sft"]["divergence"]["value"] == pytest.approx(mean)
    assert components["sft"]["items"][0]["divergence"] == pytest.approx(items["sft-1"][0]["divergence"])
    assert components["sft"]["passAt"]["3"]["value"] == pytest.approx(
        sum(item["right"] > 0 for item in items["sft-1"]) / 3
    )
    assert "| retention ppl | JSD to base | pass@1, % | pass@3, % |" in (directory.report / "report.md").read_text()
    stage = next(stage for stage in stages(run, {}) if stage.name == "evaluate/sft-1")
    told = result_of(Job(run, directory, stage.arm), stage)["evaluations"]
    assert [score["metric"] for score in told] == ["accuracy", "pass@1 of 3", "pass@3 of 3", "JSD to base"]


@pytest.fixture
def evaluate_own(make_run, carry_out):
    """Evaluates the base on rows of one's own; their items."""

    def evaluate(*rows, grading="none", **spec):
        run, directory = make_run(4, eval_rows=2, components=[RAW], **spec)
        for name in ("train", "validation"):
            text = "".join(json.dumps({"prompt": prompt, "completion": said}) + "\n" for prompt, said in rows)
            (directory.root.parent / f"data/{name}.jsonl").write_text(text)
        task = run.spec.task.model_copy(update={"name": "custom", "grading": grading})
        run = run.model_copy(update={"spec": run.spec.model_copy(update={"task": task})})
        carry_out(run, directory, "prepare", "evaluate", "report")
        return read_jsonl(directory.evaluate("raw-1") / "items-custom.jsonl")

    return evaluate


def test_nothing_is_drawn_where_nothing_is_graded(evaluate_own):
    rows = ("Say a.", "a"), ("Say b.", "b")
    assert "right" not in evaluate_own(*rows, evaluation={"samples": 2, "perplexity": False})[0]


def test_right_samples_are_counted_for_the_row_that_they_are_of(evaluate_own, monkeypatch):
    """Of three samples each, a's first and second are right, and b's second."""
    drawn = []

    def completions(engine, tokenizer, examples, sampling, progress):
        drawn.append((sampling.temperature, [example.answer for example in examples]))
        right = (0, 2, 3) if len(examples) == 6 else ()
        texts = [example.answer if index in right else "no" for index, example in enumerate(examples)]
        return [Generated([1], [2], text, finished=True) for text in texts]

    monkeypatch.setattr(evaluate, "completions_of", completions)
    wanted = {"samples": 3, "temperature": 0.6, "perplexity": False}
    items = evaluate_own(("Say a.", "a"), ("Say b.", "b"), grading="exact", evaluation=wanted)
    assert [(item["correct"], item["samples"], item["right"]) for item in items] == [(False, 3, 2), (False, 3, 1)]
    assert drawn == [(0.0, ["a", "b"]), (0.6, ["a", "b"] * 3)]


def test_a_reference_is_scored_as_far_as_servers_have_room_for_it(evaluate_own, tiny_model, caplog):
    """Behind a prompt of their longest kind there is room for a completion; references may be longer."""
    lengths = {"maxPromptTokens": 60, "maxCompletionTokens": 8}
    short, long = evaluate_own(("Say a.", "a"), ("Say b.", "b " * 300), training=lengths)
    prompt = len(prompt_ids(load_tokenizer(tiny_model), [Message(role="user", content="Say b.")]))
    assert (short["goldTokens"] < 8, long["goldTokens"]) == (True, 60 + 8 - prompt)
    assert "1 of 2 references are too long behind their prompts and scored without their end" in caplog.text


def test_a_report_that_is_being_read_stays_whole(make_run, carry_out):
    run, directory = make_run(4, eval_rows=1, components=[RAW], evaluation={"perplexity": False})
    carry_out(run, directory, "prepare", "evaluate", "report")
    page = directory.report / "report.md"
    before = page.read_text()
    with page.open() as reading:
        shutil.rmtree(directory.evaluate("raw-1"))
        carry_out(run, directory, "report")
        assert reading.read() == before != page.read_text()
