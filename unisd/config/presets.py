"""What each preset sets: one table of values, never a code path.

A preset is a partial component in the manifest's own words; whatever it leaves out is the run's default. The values are
starting points from the UniSD paper (arXiv 2605.06597) and from docs/differences.md; those of baselines are explained
in docs/baselines.md.
"""

from typing import Any, Literal

Method = Literal["unisd", "raw", "sft", "sdft", "gkd", "opsd", "ssd"]
PresetName = Literal[
    "agreement_seq_random",
    "agreement_seq_retrieval",
    "agreement_seq_induction",
    "agreement_tok_random",
    "agreement_tok_retrieval",
    "agreement_tok_induction",
    "ema",
    "contrastive",
    "match_joint",
    "match_repr",
    "clip",
    "unisd_star",
    "raw",
    "sft",
    "sdft",
    "gkd",
    "opsd",
    "ssd",
]

# γ is the default of level and statistic, also where a component changes these.
_TOKEN = {"level": "token", "statistic": "variance", "scale": "absolute"}
_SEQUENCE = {"level": "sequence", "statistic": "variance", "scale": "absolute"}

PRESETS: dict[PresetName, dict[str, Any]] = {
    "agreement_seq_random": {"agreement": _SEQUENCE, "contexts": {"source": "random"}},
    "agreement_seq_retrieval": {"agreement": _SEQUENCE, "contexts": {"source": "retrieval"}},
    "agreement_seq_induction": {"agreement": _SEQUENCE, "contexts": {"source": "induction"}},
    "agreement_tok_random": {"agreement": _TOKEN, "contexts": {"source": "random"}},
    "agreement_tok_retrieval": {"agreement": _TOKEN, "contexts": {"source": "retrieval"}},
    "agreement_tok_induction": {"agreement": _TOKEN, "contexts": {"source": "induction"}},
    "ema": {"ema": {"decay": 0.98, "everySteps": 1}},
    "contrastive": {"contrastive": {"weight": 0.1, "margin": 0.5}},
    "match_joint": {"features": {"weight": 0.1, "alone": False}},
    "match_repr": {"features": {"weight": 1.0, "alone": True}},
    "clip": {"divergence": {"alpha": 0.5}, "clip": {"quantile": 0.95}},
    "unisd_star": {
        "ema": {"decay": 0.98, "everySteps": 1},
        "features": {"weight": 0.1, "alone": False},
        "contrastive": {"weight": 0.1, "margin": 0.5},
        "agreement": _TOKEN,
        "contexts": {"source": "retrieval"},
    },
    "raw": {},
    "sft": {},
    "sdft": {
        "divergence": {"alpha": 1.0, "temperature": 1.0},
        "ema": {"decay": 0.99, "everySteps": 1},
        "sampling": {"temperature": 1.0},
        "training": {"lossTokensToSkip": 3},
    },
    "gkd": {
        "divergence": {"alpha": 0.5, "temperature": 1.0},
        "sampling": {"temperature": 1.0, "onPolicy": 0.5},
    },
    "opsd": {
        "divergence": {"alpha": 0.5, "temperature": 1.0},
        "sampling": {"temperature": 1.1, "topP": 0.95, "topK": 20},
    },
    "ssd": {"sampling": {"temperature": 1.5, "topP": 0.8, "topK": 20}},
}

SUMMARIES: dict[PresetName, str] = {
    "agreement_seq_random": "weights whole completions by how far teachers with random contexts agree",
    "agreement_seq_retrieval": "weights whole completions by how far teachers with retrieved contexts agree",
    "agreement_seq_induction": "weights whole completions by how far teachers with induced instructions agree",
    "agreement_tok_random": "weights tokens by how far teachers with random contexts agree",
    "agreement_tok_retrieval": "weights tokens by how far teachers with retrieved contexts agree",
    "agreement_tok_induction": "weights tokens by how far teachers with induced instructions agree",
    "ema": "the teacher follows the student as an exponential moving average",
    "contrastive": "pushes the student away from a teacher shown a wrong demonstration",
    "match_joint": "adds matching of last hidden states to the divergence",
    "match_repr": "matches last hidden states and nothing else",
    "clip": "bounds the divergence of single tokens (Jensen-Shannon, at a quantile)",
    "unisd_star": "EMA teacher, token agreement over retrieved contexts, contrastive term and feature matching",
    "raw": "baseline: the model as it is, evaluated only",
    "sft": "baseline: cross-entropy on the reference demonstrations",
    "sdft": "baseline: reverse KL to an EMA teacher that is shown the demonstration (2601.19897)",
    "gkd": "baseline: generalised Jensen-Shannon, half of the steps on reference demonstrations (2306.13649)",
    "opsd": "baseline: Jensen-Shannon to the frozen base that is shown the solution (2601.18734)",
    "ssd": "baseline: cross-entropy on the model's own samples, drawn once at high temperature (2604.01193)",
}


def method_of(preset: PresetName | None) -> Method:
    """Which algorithm trains a component of this preset; everything that is no baseline is UniSD."""
    match preset:
        case "raw" | "sft" | "sdft" | "gkd" | "opsd" | "ssd":
            return preset
        case _:
            return "unisd"
