"""What is evaluated: a trained component, to ask for completions and for probabilities of given ones.

In this process, or on rollout servers that hold its final adapter, where the run has servers. Called by `evaluate`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from unisd.config.choices import Precision
from unisd.config.resolve import Arm
from unisd.config.serving import evaluates_on_servers
from unisd.evaluation.divergence import divergences
from unisd.evaluation.perplexity import Surprisal, surprisals
from unisd.failures import StageError
from unisd.files import read_json
from unisd.forward.attention import PACKED, register_packed_attention
from unisd.forward.packed import Ids
from unisd.job import Job
from unisd.models import load_model, load_tokenizer, stop_ids
from unisd.prepared import Prepared
from unisd.rollouts.adapter import policy_of
from unisd.rollouts.servers import servers
from unisd.rollouts.transformers_engine import TransformersEngine
from unisd.rollouts.types import RolloutEngine
from unisd.rollouts.vllm_engine import Policy, VllmEngine
from unisd.rundir import RunDir
from unisd.teacher.adapter import adapter_in_force


class Student(Protocol):
    """A component after its training."""

    @property
    def engine(self) -> RolloutEngine:
        """Generates its completions."""
        ...

    def surprisals(self, prompts: Sequence[Ids], completions: Sequence[Ids], *, base: bool = False) -> list[Surprisal]:
        """−log p of each completion given its prompt, in order; with `base`, under the model before training."""
        ...


@contextmanager
def student_for(job: Job, prepared: Prepared) -> Iterator[Student]:
    """The component that a job evaluates."""
    arm = job.required_arm
    if not evaluates_on_servers(job.spec, arm):
        weights = weights_of(job.directory, arm, prepared.model)
        yield loaded_student(weights, job.spec.evaluation.batch_size, arm.training.max_tokens_per_pass)
        return
    with closing(servers(stop_ids(load_tokenizer(prepared.model), prepared.model))) as client:
        client.publish(_final_policy(job, arm))
        yield ServedStudent(client)


def _final_policy(job: Job, arm: Arm) -> Policy:
    """The adapter that training ended with, under the number of the step that made it: servers may still hold it."""
    if not arm.trains:
        return Policy(arm.name, 0)
    trained = job.directory.trained(arm.name)
    step: int = read_json(trained / "result.json")["exportedStep"]
    return Policy(arm.name, step, policy_of(trained / "adapter", arm.training.precision))


@dataclass(frozen=True)
class ServedStudent:
    """A component that servers hold."""

    engine: VllmEngine

    def surprisals(self, prompts: Sequence[Ids], completions: Sequence[Ids], *, base: bool = False) -> list[Surprisal]:
        found = dict(self.engine.score(prompts, completions, base=base))
        return [Surprisal(-sum(found[index]), len(found[index])) for index in range(len(prompts))]


@dataclass(frozen=True)
class LoadedStudent:
    """A component in this process."""

    model: Any
    base: Any
    """Something to score with its base: the same module, or a second model."""
    engine: TransformersEngine
    autocast: Callable[[], AbstractContextManager[Any]]
    max_tokens: int
    """Tokens of one scoring pass."""

    def surprisals(self, prompts: Sequence[Ids], completions: Sequence[Ids], *, base: bool = False) -> list[Surprisal]:
        with self.autocast(), self._in_force(base) as model:
            return surprisals(model, prompts, completions, self.max_tokens)

    def divergences(self, prompts: Sequence[Ids], completions: Sequence[Ids]) -> list[float]:
        """Mean Jensen-Shannon divergence to the base over each completion's tokens, in order."""
        with self.autocast():
            return divergences(
                lambda: self._in_force(False), lambda: self._in_force(True), prompts, completions, self.max_tokens
            )

    @contextmanager
    def _in_force(self, base: bool) -> Iterator[Any]:
        if not base:
            yield self.model
        elif self.base is not self.model or not hasattr(self.model, "peft_config"):
            yield self.base
        else:
            with adapter_in_force(self.model, None):
                yield self.model


@dataclass(frozen=True)
class Weights:
    """Where the weights of a student lie."""

    base: Path
    """The model before training."""
    precision: Precision
    """Precision that training computed in, so that what is evaluated is what was trained."""
    trained: Path | None = None
    """Adapters on the base, or a whole model if it is `full`; None for the base as it is."""
    full: bool = False


def loaded_student(weights: Weights, batch_size: int, max_tokens: int) -> LoadedStudent:
    """A model in this process; `batch_size` rows are generated together, `max_tokens` scored in one pass."""
    model, base = _models(weights)
    autocast = _autocast(model, weights.precision)
    ending = stop_ids(load_tokenizer(weights.base), weights.base)
    engine = TransformersEngine(model, ending, batch_size, autocast)
    return LoadedStudent(model, base, engine, autocast, max_tokens)


def weights_of(directory: RunDir, arm: Arm, base: Path, precision: Precision | None = None) -> Weights:
    """Where the weights of a run's component lie; in another precision than it was trained in if one is given."""
    trained = directory.trained(arm.name) / "adapter" if arm.trains else None
    return Weights(base, precision or arm.training.precision, trained, arm.trains_whole_model)


def _models(weights: Weights) -> tuple[Any, Any]:
    register_packed_attention()
    if weights.full and weights.trained is not None:
        model, base = load_model(weights.trained, weights.precision), load_model(weights.base, weights.precision)
        base.set_attn_implementation(PACKED)
    else:
        model = base = load_model(weights.base, weights.precision)
        if weights.trained is not None:
            model = base = _adapted(model, weights.trained)
    (model.get_base_model() if hasattr(model, "peft_config") else model).set_attn_implementation(PACKED)
    return model, base


def _adapted(model: Any, adapters: Path) -> Any:
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        return PeftModel.from_pretrained(model, str(adapters)).eval()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise StageError("BadInput", f"the adapters {adapters} do not fit their base: {error}") from error


def _autocast(model: Any, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    if precision == "float32":
        return nullcontext
    device = next(model.parameters()).device.type
    return lambda: torch.autocast(device, torch.bfloat16)
