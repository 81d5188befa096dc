"""The scores of one component on one task, each with its interval: what the run's status shows. Pure."""

from collections.abc import Sequence

from unisd.evaluation import comparison
from unisd.evaluation.figures import column, pass_at
from unisd.files import Json

_DIGITS = 6


def scores_of(task: str, metric: str, items: Sequence[Json], passes: Sequence[int] = (1,)) -> list[Json]:
    """Scores, the task's own metric first; of a task that grades nothing, how many completions came to an end."""
    graded = ("finished", "finished") if metric == "none" else (metric, "correct")
    found = [_score(task, graded[0], comparison.proportion([[float(item[graded[1]]) for item in items]]))]
    for kind in ("gold", "retention"):
        if items and f"{kind}Nats" in items[0]:
            nats, tokens = ([[float(item[f"{kind}{unit}"]) for item in items]] for unit in ("Nats", "Tokens"))
            found.append(_score(task, f"{kind} perplexity", comparison.perplexity(nats, tokens)))
    if items and "right" in items[0]:
        samples: int = items[0]["samples"]
        for k, values in pass_at(column([items], "right"), samples, passes).items():
            found.append(_score(task, f"pass@{k} of {samples}", comparison.Estimate(**values)))
    if items and "divergence" in items[0]:
        found.append(_score(task, "JSD to base", comparison.mean(column([items], "divergence")[0])))
    return found


def _score(task: str, metric: str, estimate: comparison.Estimate) -> Json:
    values = {"score": estimate.value, "low": estimate.low, "high": estimate.high}
    return {
        "task": task,
        "metric": metric,
        **{name: round(v, _DIGITS) for name, v in values.items()},
        "items": estimate.items,
    }
