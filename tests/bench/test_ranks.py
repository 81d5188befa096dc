"""The bench of trainings in several processes, on the tiny model; what it compares is tested in `tests.training.test_ranks`."""

import pytest

from bench.ranks import Case, Setting, manifest, measure, table
from unisd.config.resolve import resolve


@pytest.mark.parametrize("case", [Case(1, 0), Case(2, 3), Case(4, 2)])
def test_every_case_has_the_same_rows_in_a_step(tmp_path, case):
    training = resolve(manifest(Setting(tmp_path), "SFT, LoRA", case).spec)[0].training
    assert training.per_device_batch_size * training.gradient_accumulation_steps * case.processes == 16


@pytest.mark.slow
def test_two_processes_are_shown_beside_one(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    cases = [Case(1, 0), Case(2, 2)]
    found = measure(Setting(tiny_model, 2, 4, "float32"), "SFT, LoRA", cases, tmp_path / "runs")
    assert found[0].losses == pytest.approx(found[1].losses, rel=1e-4)
    lines = list(table(cases, found))
    assert len(lines) == 4
    assert lines[3].startswith("| 2 | 2 | ")
