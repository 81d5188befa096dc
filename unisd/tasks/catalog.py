"""Which class carries out which task."""

from collections.abc import Callable

from unisd.config.task import Task as TaskConfig
from unisd.config.task import TaskName
from unisd.tasks.cos_e import CosE
from unisd.tasks.custom import Custom
from unisd.tasks.mbpp import Mbpp
from unisd.tasks.types import Task

_TASKS: dict[TaskName, Callable[[TaskConfig], Task]] = {"cos_e": CosE, "custom": Custom, "mbpp": Mbpp}


def task_for(config: TaskConfig) -> Task:
    """The task that a run's configuration names. Raises ValueError for one that is not built yet."""
    if config.name not in _TASKS:
        raise ValueError(f"spec.task.name: {config.name!r} is not available; available: {', '.join(sorted(_TASKS))}")
    return _TASKS[config.name](config)
