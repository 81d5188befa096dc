"""The base model as a writer of texts for contexts, and the memory of what it wrote.

One writer serves all components of a run. The model is loaded when the first text is asked for; what was written is
kept under `UNISD_CACHE` by a hash of everything that it depends on, so that a stage that was killed goes on where it
stopped and another run with the same inputs writes nothing. Called by the contexts stage; knows no kind of text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unisd.chat import prompt_ids
from unisd.files import Json
from unisd.job import Job
from unisd.kept import kept_rows
from unisd.models import cache_directory, load_model, load_tokenizer, stop_ids
from unisd.prepared import load_prepared
from unisd.rollouts.types import RolloutEngine, Sampling
from unisd.tasks.types import Message

CHUNK = 64
"""Texts asked for together, and lost if the stage is killed."""
TEMPERATURE = 0.7


@dataclass(frozen=True)
class Request:
    """A text to ask for."""

    messages: Sequence[Message]
    prefix: str = ""
    """How the assistant's turn begins; generation continues it."""


@dataclass
class Writer:
    """Writes texts, each once."""

    tokenizer: Any
    identity: Json
    """What all texts depend on: the model, its precision and the engine."""
    start: Callable[[], RolloutEngine]
    """Makes the engine."""
    cache: Path
    longest_prompt: int
    """Tokens that a prompt may have."""

    @cached_property
    def engine(self) -> RolloutEngine:
        """The engine, started now if it was not."""
        return self.start()

    def texts(
        self, requests: Sequence[Request], max_tokens: int, seed: int, schema: Mapping[str, Any] | None = None
    ) -> list[str]:
        """The text of every request, in order; empty where the prompt is longer than the limit.

        Servers hold their decoding to a JSON Schema that is given.
        """
        prompts = [prompt_ids(self.tokenizer, request.messages, request.prefix) for request in requests]
        fitting = [index for index, prompt in enumerate(prompts) if len(prompt) <= self.longest_prompt]
        sampling = Sampling(TEMPERATURE, max_tokens, seed, schema=schema)
        texts = {
            fitting[completion.index]: str(self.tokenizer.decode(completion.ids, skip_special_tokens=True))
            for completion in self.engine.generate([prompts[index] for index in fitting], sampling)
        }
        return [texts.get(index, "") for index in range(len(requests))]

    def kept(self, kind: str, inputs: object, make: Callable[[], list[Json]]) -> list[Json]:
        """Rows of a kind that depend on `inputs` and on the model alone: as they were made, or made now."""
        return kept_rows(self.cache / kind, [self.identity, inputs], make)


@contextmanager
def writer_for(job: Job) -> Iterator[Writer]:
    """The writer of a run: its base model in the precision of training, in this process or on its rollout servers."""
    prepared, precision = load_prepared(job.directory.prepared), job.spec.training.precision
    tokenizer = load_tokenizer(prepared.model)

    def start() -> RolloutEngine:
        from unisd.rollouts.servers import servers
        from unisd.rollouts.transformers_engine import TransformersEngine

        ending = stop_ids(tokenizer, prepared.model)
        if job.spec.rollout.engine == "vllm":
            return opened.enter_context(closing(servers(ending)))
        return TransformersEngine(load_model(prepared.model, precision), ending, job.spec.evaluation.batch_size)

    with ExitStack() as opened:
        yield Writer(
            tokenizer,
            {"model": prepared.model_digest, "precision": precision, "engine": job.spec.rollout.engine},
            start,
            cache=cache_directory(),
            longest_prompt=prepared.values["promptLimit"],
        )
