"""What a run trains on: a named task or the user's own rows."""

from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import Config, DataKey, FilePath, HubId, Name, NonNegativeInt, ObjectName, PositiveInt, Text
from unisd.config.choices import ContextSource, Grading, Layout

TaskName = Literal["scienceqa", "mbpp", "cos_e", "toolalpaca", "medmcqa", "gsm8k", "gpqa", "humaneval", "custom"]
EVALUATION_ONLY: frozenset[TaskName] = frozenset({"gpqa", "humaneval"})


class ConfigMapKey(Config):
    """One key of a ConfigMap in the run's namespace."""

    name: ObjectName
    """Name of the ConfigMap."""
    key: DataKey
    """Key whose value is the JSON Lines text."""


class Source(Config):
    """Where rows come from; exactly one of hub, path and configMap. Default: the task's own hub dataset."""

    hub: HubId | None = None
    """Hub dataset id with rows in the task's published schema."""
    revision: Name | None = None
    """Commit of the hub dataset. Default: the task's pinned one; the newest, which is told, where none is pinned."""
    path: FilePath | None = None
    """A JSON Lines file, or a folder with `train.jsonl` and `test.jsonl` (or `validation.jsonl`)."""
    config_map: ConfigMapKey | None = None
    """Rows in a ConfigMap (clusters only)."""


class Task(Config):
    """The task of a run."""

    name: TaskName
    """Named task, or `custom` for rows of one's own (docs/tasks/custom.md)."""
    subset: Literal["sanitized", "full"] | None = None
    """MBPP only: which edition. Default `sanitized`."""
    source: Source | None = None
    """Where rows come from. Default: the task's hub dataset."""
    grading: Grading | None = None
    """`custom` only: how completions are graded. Default `none`."""
    pattern: Text | None = None
    """`grading: regex` only: its first group is the answer found in a completion."""
    seed: NonNegativeInt = 0
    """Seed of option order, splits and choice of contexts; fixed over training seeds. Default 0."""
    max_train_examples: PositiveInt | None = None
    """Trains on a seeded sample of this many rows. Default: all."""
    max_eval_examples: PositiveInt | None = None
    """Evaluates on a seeded sample of this many rows of each task. Default: all."""


class Contexts(Config):
    """The auxiliary contexts of agreement, and the layout of every demonstration."""

    count: Annotated[int, Field(ge=1, le=16)] = 3
    """Auxiliary contexts K per example; agreement needs at least 2. Default 3."""
    source: ContextSource = "retrieval"
    """Other examples at random, the nearest ones, or induced instructions. Default `retrieval`."""
    layout: Layout = "marker"
    """`marker`: the demonstration follows the question in one user message; `turns`: user, assistant =
    demonstration, user again. One for all contexts of a run. Default `marker`."""
    retriever: Literal["embedding", "bm25"] = "embedding"
    """Engine of `retrieval`: a sentence embedding model, or BM25 over words. Default `embedding`."""
    embedding_model: Text = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub id or directory of the embedding model: a directory beside the manifest, in a cluster an absolute path as
    pods see it (`/data/…` in the claim). Default all-MiniLM-L6-v2."""
    demonstrations_per_context: Annotated[int, Field(ge=1, le=16)] = 1
    """Solved examples shown in each auxiliary context. Default 1."""
    max_generated_tokens: PositiveInt = 192
    """Cap of every text that a run generates for contexts (negatives, instructions), counted in full against
    the prompt limit. Default 192."""
    max_missing_negatives: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    """Largest share of examples without a valid negative; above it components that need negatives fail. Default 0.2."""
