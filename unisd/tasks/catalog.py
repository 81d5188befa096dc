"""Which class carries out which task."""

from collections.abc import Callable

from unisd.config.task import Task as TaskConfig
from unisd.config.task import TaskName
from unisd.tasks.cos_e import cos_e
from unisd.tasks.custom import Custom
from unisd.tasks.gpqa import gpqa
from unisd.tasks.gsm8k import Gsm8k
from unisd.tasks.humaneval import humaneval
from unisd.tasks.mbpp import mbpp
from unisd.tasks.medmcqa import medmcqa
from unisd.tasks.scienceqa import scienceqa
from unisd.tasks.toolalpaca import ToolAlpaca
from unisd.tasks.types import Task

_TASKS: dict[TaskName, Callable[[TaskConfig], Task]] = {
    "cos_e": cos_e,
    "custom": Custom,
    "gpqa": gpqa,
    "gsm8k": Gsm8k,
    "humaneval": humaneval,
    "mbpp": mbpp,
    "medmcqa": medmcqa,
    "scienceqa": scienceqa,
    "toolalpaca": ToolAlpaca,
}


def task_for(config: TaskConfig) -> Task:
    """The task that a run's configuration names."""
    return _TASKS[config.name](config)
