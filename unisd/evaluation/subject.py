"""What `unisd evaluate` is pointed at: a trained component, a checkpoint, a hub id, or a model on a running server.

A subject answers prompts and, in this process, scores given completions. It knows its content, which is what its
answers are kept by; a server's content nobody knows, so that nothing of it is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from unisd.chat import completion_ids, prompt_ids
from unisd.config.choices import Precision
from unisd.config.load import load_run
from unisd.config.model import Model, is_path
from unisd.config.resolve import Arm, resolve
from unisd.evaluation.chat_server import ChatServer
from unisd.evaluation.perplexity import Surprisal
from unisd.evaluation.student import LoadedStudent, Weights, loaded_student, weights_of
from unisd.failures import StageError
from unisd.files import Json, read_json
from unisd.models import ModelDirectory, cache_directory, content_digest, load_tokenizer, positions_of, resolve_model
from unisd.prepared import load_prepared
from unisd.rollouts.types import Sampling
from unisd.rundir import RunDir
from unisd.tasks.types import Example

_ADAPTER = "adapter_config.json"
Told = Callable[[int], None]


class Subject(Protocol):
    """Something that answers."""

    @property
    def identity(self) -> Json | None:
        """Names its content; None where that is unknown."""
        ...

    def fits(self, example: Example, max_tokens: int) -> bool:
        """Whether it has room for the prompt and so many tokens after it."""
        ...

    def answers(
        self, examples: Sequence[Example], sampling: Sampling, schemas: Sequence[Json | None], progress: Told
    ) -> list[Json]:
        """For each example in order: text, tokens, finished and, where they are known, ids."""
        ...

    def scores(self, examples: Sequence[Example], answers: Sequence[Json]) -> list[Json]:
        """What can be said of probabilities: gold and retention nats and tokens, divergence; empty where nothing."""
        ...


@dataclass(frozen=True)
class Place:
    """A model in this process: its weights, and digests of what they are."""

    weights: Weights
    identity: Json


def place_of(model: str, adapter: Path | None, base: str | None, precision: Precision | None) -> Place:
    """What a path or hub id means.

    RUN_DIRECTORY/ARM is a trained component; a directory of adapters stands on its base; anything else is a model.

    Raises:
        StageError: BadInput, for whatever is not there or does not fit together.
    """
    path = Path(model).expanduser()
    if (path.parent / "run.json").is_file():
        for flag, value in (("--adapter", adapter), ("--base", base)):
            if value is not None:
                raise StageError("BadInput", f"{flag}: {model} is a component of a run, which has its own: remove it")
        return _component(RunDir(path.parent), path.name, precision)
    if adapter is not None:
        _check_adapter(adapter, base)
        return _place(_resolved(model), precision, adapter, full=False)
    if (path / _ADAPTER).is_file():
        return _place(_resolved(base or _base_of(path), "--base"), precision, path, full=False)
    found = _resolved(model)
    if base is not None:
        return _place(_resolved(base, "--base"), precision, found.path, full=True)
    return _place(found, precision, None, full=False)


def _check_adapter(adapter: Path, base: str | None) -> None:
    if base is not None:
        raise StageError("BadInput", "--base: the base of --adapter is --model: remove it")
    if not (adapter / _ADAPTER).is_file():
        raise StageError("BadInput", f"--adapter: {adapter} is no directory of PEFT adapters: it has no {_ADAPTER}")


def _base_of(adapter: Path) -> str:
    """What adapters say that they were trained on."""
    try:
        named = read_json(adapter / _ADAPTER)["base_model_name_or_path"]
    except (ValueError, TypeError, KeyError):
        named = None
    if not named:
        raise StageError("BadInput", f"--model: {adapter / _ADAPTER} names no base: give it as --base")
    return str(named)


def _place(base: ModelDirectory, precision: Precision | None, trained: Path | None, *, full: bool) -> Place:
    return _identified(Weights(base.path, precision or "bfloat16", trained, full), base.digest)


def _identified(weights: Weights, base: str) -> Place:
    """The place of weights whose base has this digest."""
    digest = content_digest(weights.trained) if weights.trained is not None else None
    return Place(weights, {"base": base, "trained": digest, "full": weights.full, "precision": weights.precision})


def _resolved(model: str, flag: str = "--model") -> ModelDirectory:
    name, _, revision = model.partition("@")
    path = str(Path(model).expanduser())
    try:
        found = Model(path=path) if is_path(model) else Model(name=name, revision=revision or None)
    except ValidationError:
        raise StageError("BadInput", f"{flag}: {model!r} is neither a path that is there nor a hub id") from None
    try:
        return resolve_model(found, cache_directory())
    except StageError as error:
        raise StageError(error.reason, str(error).replace("spec.model:", f"{flag}:")) from error


def _component(directory: RunDir, name: str, precision: Precision | None) -> Place:
    arms: dict[str, Arm] = {arm.name: arm for arm in resolve(load_run(directory.manifest).spec)}
    if name not in arms:
        raise StageError("BadInput", f"{directory.root} has no component {name}; it has {', '.join(arms)}")
    arm, prepared = arms[name], load_prepared(directory.prepared)
    weights = weights_of(directory, arm, prepared.model, precision)
    if weights.trained is not None and not weights.trained.is_dir():
        raise StageError("BadInput", f"component {name} of {directory.root} is not trained to its end: run it first")
    return _identified(weights, prepared.model_digest)


class LoadedSubject:
    """A model in this process. Decoding is free here: answers that are no JSON of the schema count as not found."""

    def __init__(self, place: Place, batch_size: int, tokens_per_pass: int) -> None:
        self.identity: Json | None = place.identity
        self._tokenizer = load_tokenizer(place.weights.base)
        self._load = partial(loaded_student, place.weights, batch_size, tokens_per_pass)
        self._changed = place.weights.trained is not None
        self._positions = positions_of(place.weights.base)

    @cached_property
    def _student(self) -> LoadedStudent:
        """The model, loaded when something has to be computed."""
        return self._load()

    def fits(self, example: Example, max_tokens: int) -> bool:
        return self._positions is None or len(self._prompt(example)) + max_tokens <= self._positions

    def _prompt(self, example: Example) -> list[int]:
        return prompt_ids(self._tokenizer, example.messages)

    def answers(
        self, examples: Sequence[Example], sampling: Sampling, schemas: Sequence[Json | None], progress: Told
    ) -> list[Json]:
        found: dict[int, Json] = {}
        for completion in self._student.engine.generate([self._prompt(example) for example in examples], sampling):
            text = self._tokenizer.decode(completion.ids, skip_special_tokens=True)
            ids = list(completion.ids)
            found[completion.index] = {
                "text": text, "ids": ids, "tokens": len(ids), "finished": completion.finished
            }  # fmt: skip
            progress(len(found))
        return [found[index] for index in range(len(examples))]

    def scores(self, examples: Sequence[Example], answers: Sequence[Json]) -> list[Json]:
        prompts = [self._prompt(example) for example in examples]
        written = [answer["ids"] for answer in answers]
        scored: list[Json] = [{} for _ in examples]
        for kind, values in (
            ("gold", self._gold(examples)),
            ("retention", self._student.surprisals(prompts, written, base=True)),
        ):
            for row, value in zip(scored, values, strict=True):
                row |= {f"{kind}Nats": value.nats, f"{kind}Tokens": value.tokens}
        if self._changed:
            for row, divergence in zip(scored, self._student.divergences(prompts, written), strict=True):
                row["divergence"] = divergence
        return scored

    def _gold(self, examples: Sequence[Example]) -> list[Surprisal]:
        """Of each example's reference, scored once however many samples of it there are."""
        once = list({example.id: example for example in examples}.values())
        gold = [completion_ids(self._tokenizer, example.demonstration) for example in once]
        found = self._student.surprisals([self._prompt(example) for example in once], gold)
        by_id = {example.id: value for example, value in zip(once, found, strict=True)}
        return [by_id[example.id] for example in examples]


@dataclass(frozen=True)
class ServedSubject:
    """A model on a server that speaks OpenAI's chat completions; it gives no probabilities of given texts."""

    server: ChatServer

    @property
    def identity(self) -> Json | None:
        return None

    def fits(self, example: Example, max_tokens: int) -> bool:
        return True

    def answers(
        self, examples: Sequence[Example], sampling: Sampling, schemas: Sequence[Json | None], progress: Told
    ) -> list[Json]:
        return self.server.completions([example.messages for example in examples], sampling, schemas, progress)

    def scores(self, examples: Sequence[Example], answers: Sequence[Json]) -> list[Json]:
        return [{} for _ in examples]
