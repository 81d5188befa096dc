"""The preparation: what fits, what is dropped, what is refused."""

import json
import shutil

import pytest

from unisd.failures import StageError
from unisd.files import read_json
from unisd.models import load_tokenizer
from unisd.prepared import load_examples, load_prepared
from unisd.training.rows import Rows


def test_rows_that_do_not_fit_are_dropped_for_all_and_named(make_run, carry_out, tiny_model):
    run, directory = make_run(12)
    carry_out(run, directory, "prepare")
    longest = load_prepared(directory.prepared).values["longestPrompt"]
    run, directory = make_run(12, training={"maxPromptTokens": longest - 1})
    carry_out(run, directory, "prepare")
    prepared = load_prepared(directory.prepared)
    kept = load_examples(directory.prepared.train)
    assert len(kept) == prepared.values["train"]["rows"] == 12 - len(prepared.values["train"]["dropped"]) < 12
    assert prepared.values["longestPrompt"] <= longest - 1
    carry_out(run, directory, "contexts")
    arm_rows = _rows(run, directory, kept, load_tokenizer(tiny_model))
    for row in arm_rows:
        assert max(map(len, [row.prompt, row.teacher, *row.contexts])) <= longest - 1


def _rows(run, directory, kept, tokenizer):
    from unisd.config.resolve import resolve

    pool = {e.id: e for e in load_examples(directory.prepared.pool)}
    donors = read_json(directory.prepared.neighbours("retrieval"))
    found = {identity: [pool[d] for d in chosen] for identity, chosen in donors.items()}
    return list(Rows(kept, resolve(run.spec)[0], tokenizer, donors=found, instructions={}, negatives={}))


def test_nothing_left_is_an_error(make_run, carry_out):
    run, directory = make_run(6, training={"maxPromptTokens": 10})
    with pytest.raises(StageError, match=r"maxPromptTokens: every one of 6 training rows .* above 10 tokens") as error:
        carry_out(run, directory, "prepare")
    assert error.value.reason == "BadInput"


def test_evaluation_and_probe_rows_keep_the_limit_too(make_run, carry_out, tmp_path):
    run, directory = make_run(12, eval_rows=3, evaluation={"everySteps": 1, "probeExamples": 4})
    row = {**json.loads((tmp_path / "data/validation.jsonl").read_text().splitlines()[0]), "id": "long"}
    row["question"] = "why " * 1600
    with (tmp_path / "data/validation.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    carry_out(run, directory, "prepare")
    values = load_prepared(directory.prepared).values
    assert values["evaluation"]["cos_e"] == {"rows": 3, "dropped": 1}
    assert values["probe"] == {"rows": 4, "dropped": 0}
    (tmp_path / "data/validation.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(StageError, match="every one of 1 evaluation rows has a prompt above 1500 tokens"):
        carry_out(run, directory, "prepare")


def test_a_models_positions_are_a_limit_too(make_run, carry_out, caplog):
    run, directory = make_run(4, training={"maxPromptTokens": 4096})
    carry_out(run, directory, "prepare")
    assert load_prepared(directory.prepared).values["promptLimit"] == 4096 - 8
    assert "prompts may have 4088 tokens: the model has 4096 positions" in caplog.text
    run, directory = make_run(4, training={"maxCompletionTokens": 5000})
    with pytest.raises(StageError, match="maxCompletionTokens: 5000 leaves no room for a prompt in a model of 4096"):
        carry_out(run, directory, "prepare")


def test_a_chat_template_that_refuses_the_messages(make_run, carry_out, tiny_model, tmp_path):
    strict = tmp_path / "strict"
    shutil.copytree(tiny_model, strict)
    told = "{{ raise_exception('Roles must alternate') if messages | length > 1 }}"
    template = strict / "chat_template.jinja"
    template.write_text(told + template.read_text())
    run, directory = make_run(4)
    spec = run.spec.model_copy(update={"model": run.spec.model.model_copy(update={"path": str(strict)})})
    run = run.model_copy(update={"spec": spec})
    with pytest.raises(
        StageError, match=r"refuses messages of user, assistant, user: Roles must .*contexts.layout"
    ) as error:
        carry_out(run, directory, "prepare")
    assert error.value.reason == "BadInput"


def test_more_contexts_than_rows(make_run, carry_out):
    run, directory = make_run(4, contexts={"count": 4})
    with pytest.raises(StageError, match=r"asks for 4 other examples .* lower contexts.count"):
        carry_out(run, directory, "prepare")


def test_probes_are_carved_out_and_never_donors(make_run, carry_out):
    run, directory = make_run(12, evaluation={"everySteps": 1, "probeExamples": 4})
    carry_out(run, directory, "prepare")
    rows = directory.prepared
    train, probe, pool = ({e.id for e in load_examples(path)} for path in (rows.train, rows.probe, rows.pool))
    assert (len(train), len(probe)) == (8, 4)
    assert not probe & (train | pool)
    assert not probe & {d for donors in read_json(rows.neighbours("retrieval")).values() for d in donors}
    run, directory = make_run(4, evaluation={"everySteps": 1, "probeExamples": 4})
    with pytest.raises(StageError, match="probeExamples: 4 of 4 training rows leaves none"):
        carry_out(run, directory, "prepare")


def test_broken_rows_name_file_and_line(make_run, carry_out, tmp_path):
    run, directory = make_run(4)
    path = tmp_path / "data/train.jsonl"
    path.write_text(path.read_text() + json.dumps({"id": "x"}) + "\n")
    with pytest.raises(StageError, match=r"train.jsonl:5: field 'choices' is missing"):
        carry_out(run, directory, "prepare")


def test_too_few_negatives_are_an_error(make_run, carry_out):
    run, directory = make_run(6, contexts={"maxMissingNegatives": 0.0, "maxGeneratedTokens": 1})
    carry_out(run, directory, "prepare")
    with pytest.raises(StageError, match=r"maxMissingNegatives: \d of 6 examples have no valid wrong demonstration"):
        carry_out(run, directory, "contexts")


def test_the_commit_of_a_hub_dataset_is_recorded(make_run, carry_out, tmp_path, monkeypatch):
    """A folder in the hub's form takes the way of a hub id."""
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    run, directory = make_run(4)
    carry_out(run, directory, "prepare")
    assert set(load_prepared(directory.prepared).values["revisions"]) == {"model", "rows"}
    shutil.copytree(tmp_path / "data", tmp_path / "published/rows")
    run, directory = make_run(4, task={"source": {"hub": "published/rows", "revision": "a" * 40}})
    carry_out(run, directory, "prepare")
    assert load_prepared(directory.prepared).values["revisions"]["dataset"] == f"published/rows@{'a' * 40}"


def test_what_was_retrieved_is_kept_for_other_runs(make_run, carry_out, cache):
    """Embedding a large task takes long; another run on the same claim has it."""
    run, directory = make_run(8)
    carry_out(run, directory, "prepare")
    (kept,) = (cache / "neighbours").glob("*.jsonl")
    table, before = directory.prepared.neighbours("retrieval"), kept.stat().st_mtime_ns
    found = read_json(table)
    table.unlink()
    run, directory = make_run(8, task={"seed": 5}, seeds=[2])
    carry_out(run, directory, "prepare")
    assert (read_json(table), kept.stat().st_mtime_ns) == (found, before)
    for other in ({"train_rows": 9}, {"contexts": {"count": 3}}):
        carry_out(*make_run(**{"train_rows": 8, **other}), "prepare")
    assert len(list((cache / "neighbours").glob("*.jsonl"))) == 3


def test_negatives_are_cached_by_content(make_run, carry_out, cache):
    run, directory = make_run(6)
    carry_out(run, directory, "prepare", "contexts")
    (first,) = (cache / "negatives").glob("*.jsonl")
    before = first.stat().st_mtime_ns
    carry_out(run, directory, "contexts")
    assert first.stat().st_mtime_ns == before
    other, directory = make_run(6, task={"seed": 5})
    carry_out(other, directory, "prepare", "contexts")
    assert len(list((cache / "negatives").glob("*.jsonl"))) == 2


def test_the_model_is_linked_for_servers(make_run, carry_out, tiny_model):
    run, directory = make_run(6)
    for _ in range(2):
        carry_out(run, directory, "prepare")
        assert (directory.prepared.model).resolve() == tiny_model.resolve()
