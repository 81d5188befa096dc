"""The figures of one component or model on one task, from its items: scores, breakdowns, perplexities. Pure.

Called by the report and by `unisd evaluate`. Legend: S seeds or samples of one item, I items.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from unisd.evaluation import comparison
from unisd.files import Json

Items = Sequence[Sequence[Json]]


def figures(items_SI: Items, metric: str, passes: Sequence[int] = (1,)) -> Json:
    """Every figure with its interval; scores and breakdowns only where something is graded.

    `passes` are the k of pass@k, which is told of items with several `samples`, so many of them `right`.
    """
    found: Json = {"metric": metric}
    if metric != "none":
        found["score"] = vars(comparison.proportion(column(items_SI, "correct")))
        found["found"] = vars(comparison.proportion(column(items_SI, "found")))
        found["parts"] = _parts(items_SI)
        found["groups"] = _groups(items_SI)
    found["finished"] = vars(comparison.proportion(column(items_SI, "finished")))
    for kind in ("gold", "retention"):
        if f"{kind}Nats" in items_SI[0][0]:
            nats, tokens = column(items_SI, f"{kind}Nats"), column(items_SI, f"{kind}Tokens")
            found[f"{kind}Perplexity"] = vars(comparison.perplexity(nats, tokens))
    if "right" in items_SI[0][0]:
        found["passAt"] = pass_at(column(items_SI, "right"), items_SI[0][0]["samples"], passes)
    if "divergence" in items_SI[0][0]:
        found["divergence"] = vars(comparison.mean(np.mean(column(items_SI, "divergence"), axis=0).tolist()))
    return found


def column(items_SI: Items, name: str) -> list[list[float]]:
    """One field of all items, [S, I]."""
    return [[float(item[name]) for item in items] for items in items_SI]


def pass_at(right_SI: Sequence[Sequence[float]], samples: int, passes: Iterable[int]) -> Json:
    """pass@k for each k: 1 − C(n−c, k) / C(n, k) of an item with c right among n samples, averaged over all items.

    Without bias for any n ≥ k (arXiv 2107.03374); its interval by resampling items.
    """
    found = {}
    for k in passes:
        each_SI = [[_pass_at(samples, int(right), k) for right in right_I] for right_I in right_SI]
        found[str(k)] = vars(comparison.mean(np.mean(each_SI, axis=0).tolist()))
    return found


def _pass_at(samples: int, right: int, k: int) -> float:
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def _parts(items_SI: Items) -> Json:
    """Means of the finer figures that a task gives, e.g. the share of right arguments."""
    names = items_SI[0][0]["parts"]
    columns = {name: [item["parts"][name] for items in items_SI for item in items] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _groups(items_SI: Items) -> Json:
    """Scores and shares of found answers by what rows are about: kind, then value, e.g. subject, then physics."""
    found: dict[str, dict[str, list[Json]]] = {}
    for item in (item for items in items_SI for item in items):
        for kind, value in item["groups"].items():
            found.setdefault(kind, {}).setdefault(value, []).append(item)
    seeds = len(items_SI)
    return {
        kind: {
            value: {
                "rows": len(items) // seeds,
                "score": sum(item["correct"] for item in items) / len(items),
                "found": sum(item["found"] for item in items) / len(items),
            }
            for value, items in sorted(values.items())
        }
        for kind, values in found.items()
    }
