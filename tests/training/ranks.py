"""One process among several: carries out the trainings that it is told of, one after another; torchrun starts it.

A training is a run's directory with its manifest. `from` has it begin from another's first checkpoint, `poison` makes
what the teacher says NaN on the last process at one step, `stop` sends that process SIGTERM at one. What a training
ended with stands in `ended-RANK.json` beside the manifest.
"""

import faulthandler
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from unisd import train as training
from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.failures import StageError
from unisd.files import read_json, write_json
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.training.trainer import UniSDTrainer

RANK = int(os.environ["RANK"])
SCORE = UniSDTrainer._score


def troubled(poison, stop):
    def score(self, step, scored_rows):
        found = SCORE(self, step, scored_rows)
        if self.accelerator.num_processes - 1 == RANK:
            if self.state.global_step + 1 == poison:
                found.hidden_NH.fill_(float("nan"))
            if self.state.global_step + 1 == stop:
                os.kill(os.getpid(), signal.SIGTERM)
        return found

    return score


def carry_out(case):
    root = RunDir(Path(case["root"]))
    run = parse_run(read_json(root.manifest))
    (arm,) = resolve(run.spec)
    if RANK == 0 and "from" in case:
        shutil.copytree(
            RunDir(Path(case["from"])).train(arm.name) / "checkpoint-1", root.train(arm.name) / "checkpoint-1"
        )
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    UniSDTrainer._score = troubled(case.get("poison"), case.get("stop"))
    try:
        training.train(Job(run, root, arm))
    except StageError as error:
        return f"{error.reason}: {error}"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        unset_hf_deepspeed_config()
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    return "done"


def main():
    torch.set_num_threads(1)
    for case in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        faulthandler.dump_traceback_later(300, exit=True)  # shows where it hangs, if it does
        write_json(Path(case["root"]) / f"ended-{RANK}.json", carry_out(case))


if __name__ == "__main__":
    main()
