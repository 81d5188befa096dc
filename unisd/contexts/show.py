"""What the teachers of a run are shown, as text to read: `unisd contexts show`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unisd.config.resolve import Arm, resolve
from unisd.contexts.build import check_written
from unisd.contexts.layout import auxiliary_messages, induced_messages, teacher_messages
from unisd.contexts.neighbours import in_contexts
from unisd.contexts.texts import donors_of, instructions_of, negatives_of
from unisd.job import Job
from unisd.prepared import load_examples
from unisd.tasks.types import Example, Message


@dataclass(frozen=True)
class Shown:
    """One context of one example."""

    title: str
    messages: Sequence[Message]


def contexts_of(job: Job, component: str | None, ids: Sequence[str]) -> Iterator[tuple[str, list[Shown]]]:
    """For each example, named or else the first, the contexts that a component's teachers get: id and contexts.

    Raises:
        ValueError: no such component or example, or the run's contexts were not built yet.
        StageError: BadInput, what the component needs could not be written.
    """
    arm = _arm(job, component)
    check_written(job, arm)
    train = {example.id: example for example in _built(job)}
    unknown = [identity for identity in ids if identity not in train]
    if unknown:
        raise ValueError(
            f"no training example {unknown[0]!r}; there are {len(train)}, the first is {next(iter(train))!r}"
        )
    for identity in ids or list(train)[:1]:
        yield identity, _contexts(job, arm, train[identity])


def _built(job: Job) -> list[Example]:
    try:
        return load_examples(job.directory.prepared.train)
    except FileNotFoundError:
        raise ValueError(f"{job.directory.root} holds no contexts yet: `unisd contexts build` makes them") from None


def _arm(job: Job, component: str | None) -> Arm:
    arms = {arm.component: arm for arm in resolve(job.spec) if arm.samples}
    if component is None and arms:
        return next(iter(arms.values()))
    if component not in arms:
        raise ValueError(f"no component {component!r} that has teachers; there are {', '.join(arms) or 'none'}")
    return arms[component]


def _contexts(job: Job, arm: Arm, example: Example) -> list[Shown]:
    layout, found = arm.contexts.layout, [Shown("student", example.messages)]
    found.append(Shown("teacher", teacher_messages(example, example.demonstration, layout)))
    for number, messages in enumerate(_auxiliary(job, arm, example), start=1):
        found.append(Shown(f"auxiliary context {number}", messages))
    if arm.objective.contrastive is not None:
        wrong = negatives_of(job, arm).get(example.id)
        if wrong is not None:
            found.append(Shown("negative context", teacher_messages(example, wrong, layout)))
        else:
            found.append(Shown("negative context: none, it leaves the contrastive term", []))
    return found


def _auxiliary(job: Job, arm: Arm, example: Example) -> list[list[Message]]:
    if arm.objective.agreement is None:
        return []
    if arm.induces:
        told = instructions_of(job, arm, [example])[example.id]
        return [induced_messages(example, instruction) for instruction in told]
    groups = in_contexts(donors_of(job, arm)[example.id], arm.contexts)
    return [auxiliary_messages(example, group, arm.contexts.layout) for group in groups]
