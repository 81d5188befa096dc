"""Programs are built once, whoever asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.cluster
def test_two_that_ask_at_once_get_one_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster.binaries", "k8scheck"]
    environment = {**os.environ, "UNISD_CACHE": str(tmp_path)}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate()[0].split(" s  ")[1].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]

    assert len(answers) == 1
    built = Path(answers.pop())
    assert built.is_relative_to(tmp_path)
    assert {file.name for file in built.parent.iterdir()} == {"k8scheck", "lock"}
    usage = subprocess.run([built], capture_output=True, text=True, check=False)
    assert (usage.returncode, usage.stderr.split()[:2]) == (1, ["usage:", "k8scheck"])
