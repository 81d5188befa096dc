"""What a run's components need of a cluster: servers, a grader, the network. Pure questions about a specification."""

from unisd.config.resolve import Arm
from unisd.config.run import RunSpec
from unisd_operator.api.resource import RunResource

CODE_TASKS = frozenset({"mbpp", "humaneval"})


def has_servers(spec: RunSpec) -> bool:
    """Whether rollout servers exist at all; with `rollout.engine: transformers` every stage generates by itself."""
    return spec.rollout.engine == "vllm"


def samples_from_servers(spec: RunSpec, arm: Arm) -> bool:
    """Whether an arm's training has rollout servers beside it."""
    return has_servers(spec) and arm.samples


def arm_named(run: RunResource, name: str | None) -> Arm:
    """The arm of this name."""
    return next(arm for arm in run.arms if arm.name == name)


def uses_grader(spec: RunSpec) -> bool:
    """Whether code that the model wrote is run, which the grader alone may do."""
    tasks = {spec.task.name, *(spec.evaluation.tasks or ())}
    return bool(tasks & CODE_TASKS) or spec.task.grading == "python"


def grades_while_training(spec: RunSpec) -> bool:
    """Whether training has the grader run code of its probes."""
    return uses_grader(spec) and spec.evaluation.every_steps is not None


def has_tracker(spec: RunSpec) -> bool:
    """Whether training reports to a tracker outside the cluster."""
    return spec.tracking is not None and spec.tracking.wandb is not None
