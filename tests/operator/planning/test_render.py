import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from unisd_operator.planning.render import Gpus, gpus, most_gpus, render
from unisd_operator.settings import Settings

from tests.operator.planning.world import EXAMPLES, KEY, World, move, resource, status
from unisd.cli import main

SMALLEST = next(path for path in EXAMPLES if path.stem == "smallest")


def test_a_run_is_rendered_as_it_is_applied_over_its_life() -> None:
    run = replace(resource(uid="RUN-UID"), namespace="default")
    assert run.run is not None
    shown = {_key(item): item for item in render(run.run, Settings())}
    world, applied = World(), {}
    ready = {"prepare": "Succeeded", "contexts": "Succeeded"}
    for state in (
        status({"prepare": "Starting"}),
        status({"prepare": "Running"}),
        status({"prepare": "Succeeded", "contexts": "Starting"}),
        status(ready, star_1="Starting"),
        status(ready, star_1="Training"),
        status(ready, star_1="Evaluating", sft_1="Starting"),
        status(ready, star_1="Succeeded", sft_1="Evaluating"),
        status({**ready, "report": "Running"}, star_1="Succeeded", sft_1="Succeeded"),
    ):
        applied |= {_key(item): item for item in world.turn(move(run, state)).apply}
    assert applied.keys() == shown.keys()
    differing = [key for key in shown if shown[key] != applied[key]]
    assert {kind for kind, _ in differing} == {"Secret"}, "the key is a placeholder"


def _key(item: Any) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _gpus(**spec: Any) -> dict[str, Gpus]:
    run = resource(**spec)
    assert run.run is not None
    return {row.name: row for row in gpus(run.run, Settings())}


def test_gpus_are_counted_by_what_pods_ask_for() -> None:
    found = _gpus(rollout={"replicas": 3, "tensorParallelSize": 2}, trainer={"numNodes": 2, "numProcPerNode": 4})
    assert found["contexts"] == Gpus("contexts", 6, 0)
    assert found["star-1"] == Gpus("star-1", 6, 8, 6)
    assert found["sft-1"] == Gpus("sft-1", 0, 8, 6)
    inside = _gpus(rollout={"engine": "transformers"})
    assert inside["star-1"] == Gpus("star-1", 0, 1, 1)
    none = _gpus(trainer={"resourcesPerNode": {"limits": {"nvidia.com/gpu": "0"}}})
    assert none["sft-1"] == Gpus("sft-1", 0, 0, 1)
    refused = _gpus(trainer={"resourcesPerNode": {"limits": {"nvidia.com/gpu": "0.5"}}})
    assert refused["sft-1"] == none["sft-1"]


@pytest.mark.parametrize(("parallelism", "most"), [(1, 3), (2, 4), (9, 4)])
def test_gpus_at_once_are_those_of_the_greediest_components(parallelism: int, most: int) -> None:
    run = resource(parallelism=parallelism).run
    assert run is not None
    assert most_gpus(run, gpus(run, Settings())) == most


def test_the_command_prints_yaml_and_tells_gpus_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["render", "-f", str(SMALLEST)])
    told = capsys.readouterr()
    assert ended.value.code == 0
    objects = list(yaml.safe_load_all(told.out))
    assert {item["kind"] for item in objects} >= {"Deployment", "Job", "PersistentVolumeClaim", "Secret"}
    assert "star-1: 1 rollout, 1 own, 1 evaluation, at most 2 at once" in told.err
    assert KEY.decode() not in told.out


def test_the_installations_settings_are_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("images: {trainer: registry.example/trainer:7}\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["render", "-f", str(SMALLEST), "--settings", str(settings)])
    assert "registry.example/trainer:7" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["images: {trainr: x}\n", "gpuResource: [\n"])
def test_settings_that_cannot_be_read_are_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["render", "-f", str(SMALLEST), "--settings", str(settings)])
    assert ended.value.code == 65
    assert capsys.readouterr().err


def test_a_manifest_that_a_cluster_cannot_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "run.yaml"
    manifest.write_text(SMALLEST.read_text(encoding="utf-8").replace("cos_e", "cose"), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["render", "-f", str(manifest)])
    assert ended.value.code == 65
    assert "spec.task.name" in capsys.readouterr().err


def test_rendering_imports_nothing_of_a_cluster_and_no_torch() -> None:
    code = "import sys, unisd_operator.planning.render as _; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "kopf", "kubernetes", "aiohttp"} & set(run.stdout.split())
