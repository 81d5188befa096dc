"""The contexts stage of a run: what each arm needs and nothing else, shown to whoever asks."""

import pytest

from unisd.cli import main
from unisd.config.load import plain
from unisd.contexts.show import contexts_of
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl, write_json, write_jsonl
from unisd.job import Job
from unisd.stages import stages

INDUCED = {"name": "induced", "preset": "agreement_tok_induction"}
CONTRASTIVE = {"name": "contrastive", "preset": "contrastive"}
SSD = {"name": "ssd", "preset": "ssd"}
PLAIN = {"name": "plain", "divergence": {}}


def by_name(run):
    return {stage.name: stage for stage in stages(run, {})}


def told(*numbers):
    """Instructions as the stage writes them, of sets that hold none of the run's examples."""
    return [
        {"examples": [], "questions": [f"q{n}"], "instruction": f"Advice {n}: look twice.", "attempts": 1}
        for n in numbers
    ]


def test_only_arms_that_need_texts_wait_for_them(make_run):
    run, _ = make_run(components=[PLAIN, {"name": "sft", "preset": "sft"}])
    assert "contexts" not in by_name(run)
    run, _ = make_run(components=[PLAIN, CONTRASTIVE, INDUCED, SSD])
    found = by_name(run)
    waiting = {name for name, stage in found.items() if "contexts" in stage.needs}
    assert waiting == {"train/contrastive-1", "train/induced-1", "train/ssd-1"}


def test_another_arm_changes_the_texts_stage_and_no_training(make_run):
    few, _ = make_run(components=[CONTRASTIVE])
    more, _ = make_run(components=[CONTRASTIVE, SSD])
    before, after = by_name(few), by_name(more)
    assert before["contexts"].hash != after["contexts"].hash
    assert before["train/contrastive-1"].hash == after["train/contrastive-1"].hash


@pytest.mark.slow
def test_every_kind_in_one_stage(make_run, carry_out):
    run, directory = make_run(8, components=[PLAIN, CONTRASTIVE, SSD, {**SSD, "name": "again"}], seeds=[1, 2])
    carry_out(run, directory, "prepare", "contexts")
    record = read_json(directory.contexts / "contexts.json")
    assert record["negatives"] + len(record["missing"]) == 8
    assert {name for name in record if name.startswith("samples")} == {
        f"samples-{name}-{seed}" for name in ("ssd", "again") for seed in (1, 2)
    }
    drawn = [read_jsonl(directory.contexts / f"samples-{name}.jsonl") for name in ("ssd-1", "again-1", "ssd-2")]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.slow
def test_an_arm_trains_on_induced_instructions_and_shows_them(make_run, carry_out, capsys):
    run, directory = make_run(8, components=[{**INDUCED, "agreement": {"gamma": 2.0}}])
    carry_out(run, directory, "prepare")
    write_json(directory.manifest, plain(run))
    with pytest.raises(StageError, match=r"contexts.json is not there: `unisd contexts build` writes what induced"):
        carry_out(run, directory, "train")
    write_json(directory.contexts / "contexts.json", {"failed": {}})
    write_jsonl(directory.contexts / "instructions-1.jsonl", told(1, 2, 3))
    carry_out(run, directory, "train")
    metrics = read_jsonl(directory.train("induced-1") / "metrics.jsonl")
    assert all(row["agreement_disagreement"] > 0 for row in metrics)
    first = read_jsonl(directory.prepared.train)[0]
    arguments = ["contexts", "show", "-f", str(directory.manifest), "--directory", str(directory.root)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"{first['id']}: auxiliary context 2" in text
    assert text.count("look twice.") == 2
    assert text.count(first["demonstration"].splitlines()[0][:30]) == 1  # the teacher's alone
    for wrong in (["--example", "nobody"], ["--component", "nobody"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *wrong])
        assert ended.value.code == 65
        assert "nobody" in capsys.readouterr().err


def test_too_few_examples_for_induction_are_told_in_prepare(make_run, carry_out):
    run, directory = make_run(5, components=[{**INDUCED, "contexts": {"demonstrationsPerContext": 2}}])
    with pytest.raises(StageError, match="need at least 3 disjoint sets of 2 examples, but 5 examples make 2"):
        carry_out(run, directory, "prepare")


@pytest.mark.slow
def test_what_cannot_be_written_fails_the_arms_that_need_it_and_no_others(make_run, carry_out, caplog):
    """Random weights write no instruction that could be used."""
    run, directory = make_run(8, components=[CONTRASTIVE, INDUCED])
    carry_out(run, directory, "prepare", "contexts", "train/contrastive")
    assert (directory.trained("contrastive-1") / "result.json").is_file()
    assert "components that need instructions-1 cannot train: spec.contexts.count" in caplog.text
    with pytest.raises(StageError, match=r"could not write instructions-1: spec.contexts.count: 2 induced") as failed:
        carry_out(run, directory, "train/induced")
    assert failed.value.reason == "BadInput"
    with pytest.raises(StageError, match="could not write instructions-1"):
        list(contexts_of(Job(run, directory), "induced", []))


@pytest.mark.slow
def test_a_stage_that_can_write_nothing_fails(make_run, carry_out):
    run, directory = make_run(8, components=[INDUCED, PLAIN])
    carry_out(run, directory, "prepare")
    with pytest.raises(StageError, match=r"spec.contexts.count: 2 induced instructions are wanted"):
        carry_out(run, directory, "contexts")


def test_nothing_to_show_before_it_was_built(make_run, capsys):
    run, directory = make_run(5, components=[PLAIN])
    write_json(directory.manifest, plain(run))
    with pytest.raises(SystemExit) as ended:
        main(["contexts", "show", "-f", str(directory.manifest), "--directory", str(directory.root)])
    assert ended.value.code == 65
    assert "`unisd contexts build` makes them" in capsys.readouterr().err
