"""What a run's components need of a cluster: servers, a grader, the network. Pure questions about a specification."""

from unisd.config.resolve import Arm
from unisd.config.run import RunSpec
from unisd.config.serving import evaluates_on_servers
from unisd_operator.api.resource import RunResource

CODE_TASKS = frozenset({"mbpp", "humaneval"})


def asks_servers(run: RunResource, arm: str | None) -> bool:
    """Whether the evaluation of an arm, or the making of contexts where there is none, generates on rollout servers."""
    return run.spec.rollout.engine == "vllm" if arm is None else evaluates_on_servers(run.spec, arm_named(run, arm))


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
