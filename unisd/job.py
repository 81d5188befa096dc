"""What a stage function is given, and which function runs which kind of stage."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

from unisd.config.resolve import Arm
from unisd.config.run import RunSpec, SelfDistillRun
from unisd.metrics.progress import Progress
from unisd.rundir import RunDir
from unisd.stages import StageKind

# Dotted names, so that a stage imports only what it needs.
STAGES: dict[StageKind, str] = {
    "prepare": "unisd.prepare:prepare",
    "contexts": "unisd.contexts.build:build",
    "train": "unisd.execution.launch:train",
    "evaluate": "unisd.evaluation.evaluate:evaluate",
    "report": "unisd.evaluation.report:report",
    "push": "unisd.push:push",
}


@dataclass(frozen=True)
class Job:
    """One stage of one run, ready to be carried out in this process."""

    run: SelfDistillRun
    directory: RunDir
    arm: Arm | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def spec(self) -> RunSpec:
        """The run's specification."""
        return self.run.spec

    @property
    def required_arm(self) -> Arm:
        """The arm of a stage that has one."""
        assert self.arm is not None, "this stage belongs to a component"
        return self.arm


def stage_function(kind: StageKind) -> Callable[[Job], None]:
    """The function that carries out a kind of stage, imported now."""
    module, _, name = STAGES[kind].partition(":")
    function: Callable[[Job], None] = getattr(importlib.import_module(module), name)
    return function
