"""Runs on a pool of GPUs: no two on one, each started once, failures told, an interrupt passed on."""

import itertools
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.cluster.waiting import eventually
from unisd.experiments.pool import Pool, run_all, shares

PROGRAM = """
import json, os, signal, sys, time
file = sys.argv[sys.argv.index("-f") + 1]
told = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "arguments": sys.argv[1:], "began": time.time()}
if "stuck" in file:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    open(file + ".ready", "w").close()
    time.sleep(600)
time.sleep(0.3)
told["ended"] = time.time()
json.dump(told, open(file + ".told", "w"))
sys.exit(3 if "bad" in file else 0)
"""


@pytest.fixture
def manifests(tmp_path):
    def make(*names):
        paths = [tmp_path / f"{name}.yaml" for name in names]
        for path in paths:
            path.write_text("")
        return paths

    return make


def told(path):
    return json.loads((path.parent / f"{path.name}.told").read_text())


def test_gpus_are_shared_out():
    assert shares(["0", "1", "2", "3"], 2) == [("0", "2"), ("1", "3")]
    assert shares(["4", "5"], 9) == [("4",), ("5",)]
    assert shares(["4", "5"], 1) == [("4", "5")]
    assert shares([], 5) == [()]


def test_as_many_at_once_as_there_are_gpus_and_each_with_its_own(manifests):
    paths, lines = manifests("a", "bad", "c", "d"), []
    codes = run_all(paths, Pool(["4", "7"], per_device=2), lines.append, [sys.executable, "-c", PROGRAM])
    assert codes == {"a": 0, "bad": 3, "c": 0, "d": 0}
    found = [told(path) for path in paths]
    assert {each["gpu"] for each in found} == {"4", "7"}
    for gpu in ("4", "7"):
        times = sorted((each["began"], each["ended"]) for each in found if each["gpu"] == gpu)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(times))
    assert found[0]["arguments"][-4:] == ["--parallelism", "2", "--per-device", "2"]
    assert found[0]["arguments"][:3] == ["run", "-f", str(paths[0])]
    assert f"failed    bad  with exit code 3; see {paths[1].with_suffix('.log')}" in lines


def test_an_interrupt_stops_all_and_starts_no_more(manifests):
    paths = manifests("stuck", "later")
    script = (
        # Whoever started the tests in the background had them ignore SIGINT.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from pathlib import Path; from unisd.experiments.pool import Pool, run_all\n"
        f"codes = run_all([Path(p) for p in {[str(path) for path in paths]!r}], Pool(), lambda _line: None,"
        f" [sys.executable, '-c', {PROGRAM!r}])\nprint(codes)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    eventually((paths[0].parent / "stuck.yaml.ready").exists)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120)[0].strip() == "{'stuck': 130, 'later': 130}"
