"""Which other examples stand in an example's auxiliary contexts: at random, or the nearest ones.

For every example an ordered list of donors, of which each context takes the next few, so that fewer contexts are a
prefix of more. An example never gets itself or a copy of its question, with which its own answer would come. Called by
the preparation; `in_contexts` by whoever builds prompts.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from unisd.config.task import Contexts
from unisd.hub import not_to_be_had
from unisd.tasks.types import Example

_BLOCK = 1024
_Donor = TypeVar("_Donor")


def neighbours(examples: Sequence[Example], contexts: Contexts, count: int, seed: int) -> dict[str, list[str]]:
    """The first `count` donors of every example, by id.

    Raises:
        ValueError: the pool is too small for some example, or the embedding model does not load.
        StageError: NonZeroExit, if the hub that has it cannot be reached now.
    """
    keys = [question_key(example) for example in examples]
    if contexts.source == "random":
        rankings = _random(examples, count, seed, keys)
    elif contexts.retriever == "bm25":
        rankings = _bm25(examples, count, keys)
    else:
        rankings = _embedded(examples, count, keys, contexts.embedding_model)
    found: dict[str, list[str]] = {}
    for index, ranking in enumerate(rankings):
        donors: list[str] = []
        for other in ranking:
            if keys[other] != keys[index]:
                donors.append(examples[other].id)
            if len(donors) == count:
                break
        if len(donors) < count:
            raise ValueError(
                f"spec.contexts asks for {count} other examples in the contexts of each, but example "
                f"{examples[index].id!r} has only {len(donors)} in a pool of {len(examples)}: lower contexts.count or "
                "contexts.demonstrationsPerContext, or raise task.maxTrainExamples"
            )
        found[examples[index].id] = donors
    return found


def in_contexts(donors: Sequence[_Donor], contexts: Contexts) -> list[Sequence[_Donor]]:
    """The donors of each context: of context k donors k·d to (k+1)·d−1, d being the demonstrations per context."""
    size = contexts.demonstrations_per_context
    return [donors[start : start + size] for start in range(0, contexts.count * size, size)]


def question_key(example: Example) -> str:
    """What copies of a question have in common."""
    return " ".join(example.query.lower().split())


def _copies(keys: Sequence[str]) -> int:
    """Size of the largest group of copies: how many more candidates than donors a ranking needs."""
    counts: dict[str, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return max(counts.values(), default=0)


def _random(examples: Sequence[Example], count: int, seed: int, keys: Sequence[str]) -> Iterator[list[int]]:
    wanted = min(len(examples), count + _copies(keys))
    for example in examples:
        yield random.Random(f"{seed}/{example.id}").sample(range(len(examples)), wanted)


def _bm25(examples: Sequence[Example], count: int, keys: Sequence[str]) -> Iterator[list[int]]:
    import bm25s

    tokens = bm25s.tokenize([example.query for example in examples], stopwords="en", show_progress=False)
    engine = bm25s.BM25()
    engine.index(tokens, show_progress=False)
    wanted = min(len(examples), count + _copies(keys))
    for start in range(0, len(examples), _BLOCK):
        queries = [example.query for example in examples[start : start + _BLOCK]]
        block = bm25s.tokenize(queries, stopwords="en", show_progress=False, return_ids=False)
        documents, _scores = engine.retrieve(block, k=wanted, sorted=True, show_progress=False)
        yield from (row.tolist() for row in documents)


def _embedded(examples: Sequence[Example], count: int, keys: Sequence[str], model: str) -> Iterator[list[int]]:
    """By cosine similarity of sentence embeddings, in blocks: all pairs at once would not fit for large tasks."""
    import torch

    encoder = _encoder(model)
    vectors_XE = encoder.encode(
        [example.query for example in examples],
        convert_to_tensor=True,
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    wanted = min(len(examples), count + _copies(keys))
    for start in range(0, len(examples), _BLOCK):
        similarity_bX = vectors_XE[start : start + _BLOCK] @ vectors_XE.T
        yield from torch.topk(similarity_bX, wanted, dim=-1).indices.tolist()


def _encoder(model: str) -> Any:
    from httpx2 import HTTPError
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(model)
    except (HTTPError, OSError, ValueError) as error:
        said = (
            f"spec.contexts.embeddingModel: {model} cannot be loaded ({type(error).__name__}): check the name and the "
            "network, give its directory, or set contexts.retriever to bm25, which needs no model"
        )
        raise not_to_be_had(said, error) from None
