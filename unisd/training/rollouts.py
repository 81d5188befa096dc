"""Where the completions of a training come from: the model in training itself, or servers that hold its policy.

Chosen once by `unisd.train`; used by the trainer's sampling and by probes, which both ask for an engine that holds the
student as it is. The version of a policy is the number of the optimiser step that made it; 0 is the base model, which
every server holds. Does not sample.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from unisd.config.choices import Precision
from unisd.rollouts.adapter import policy_body
from unisd.rollouts.transformers_engine import TransformersEngine
from unisd.rollouts.types import Completion, RolloutEngine, Sampling
from unisd.rollouts.vllm_engine import Policy, RolloutStopped, VllmEngine
from unisd.sharded import whole
from unisd.teacher.adapter import STUDENT
from unisd.training.deepspeed import unsharded


@dataclass(frozen=True)
class Standing:
    """How rollout servers stand after a step."""

    version: int
    """The trainer's."""
    slowest: int
    """The version of the server farthest behind."""
    push_seconds: float
    """The longest push of the trainer's version."""


class Rollouts(Protocol):
    """Something that gives engines, by one method for all processes of a training together."""

    def engine(self, trainer: Any, batch_size: int) -> RolloutEngine:
        """An engine whose completions come from the student as it is now; a collective call."""
        ...

    def after_step(self, trainer: Any) -> Standing | None:
        """Called when the student has changed; a collective call."""
        ...


class InProcess:
    """Generation by the model in training."""

    def __init__(self, stop_ids: frozenset[int]) -> None:
        self._stop_ids = stop_ids

    def engine(self, trainer: Any, batch_size: int) -> RolloutEngine:
        return _InProcessEngine(trainer, self._stop_ids, batch_size)

    def after_step(self, trainer: Any) -> Standing | None:
        return None


@dataclass(frozen=True)
class _InProcessEngine:
    """Generates with the model in training, whole on every process for as long: sharded, each token would gather it."""

    trainer: Any
    stop_ids: frozenset[int]
    batch_size: int

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        autocast, wrapped = self.trainer.compute_loss_context_manager, self.trainer.engine
        plain = nullcontext(self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped))
        with plain if wrapped is None else unsharded(wrapped) as model:
            yield from TransformersEngine(model, self.stop_ids, self.batch_size, autocast).generate(prompts, sampling)


class Served:
    """Generation by servers. Each process asks for its own rows; the first one brings the policy.

    All processes hold the policy, so that a server that lost it is given it by whoever notices.
    """

    def __init__(self, client: VllmEngine, component: str, precision: Precision) -> None:
        self._client, self._component, self._precision = client, component, precision
        self._policy: Policy | None = None

    def engine(self, trainer: Any, batch_size: int) -> RolloutEngine:
        self._in_turn(trainer, self._client.publish)
        return self._client

    def after_step(self, trainer: Any) -> Standing | None:
        with suppress(RolloutStopped):  # the loop looks at the same flag
            self._in_turn(trainer, self._client.offer)
        version = trainer.state.global_step
        return Standing(version, self._client.slowest, max(self._client.push_seconds, default=0.0))

    def _in_turn(self, trainer: Any, bring: Callable[[Policy], None]) -> None:
        """The first process brings the version, then the others find it there."""
        policy, first = self._current(trainer), trainer.accelerator.is_main_process
        try:
            if first:
                bring(policy)
        finally:
            trainer.accelerator.wait_for_everyone()
        if not first:
            bring(policy)

    def _current(self, trainer: Any) -> Policy:
        version = trainer.state.global_step
        if self._policy is None or self._policy.version != version:
            model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
            config = model.peft_config[STUDENT].to_dict()
            body = policy_body(adapter_state(model), config, self._precision) if version else b""
            self._policy = Policy(self._component, version, body)
        return self._policy


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """The student's adapter by PEFT's names, on every process; a collective call where weights are sharded."""
    from peft import get_peft_model_state_dict

    student = [value for name, value in model.named_parameters() if f".{STUDENT}." in name]
    with whole(student):
        found = get_peft_model_state_dict(model, adapter_name=STUDENT, save_embedding_layers=False)
    return dict(found)
