"""The subcommands of `unisd experiments`, and the modes of each: names of presets, by what they have in common.

Read by the parser, and so nothing but names.
"""

from unisd.config.presets import PresetName

MODES: dict[str, tuple[PresetName, ...]] = {
    "agreement": (
        "agreement_seq_random",
        "agreement_seq_retrieval",
        "agreement_seq_induction",
        "agreement_tok_random",
        "agreement_tok_retrieval",
        "agreement_tok_induction",
    ),
    "ema": ("ema",),
    "contrastive": ("contrastive",),
    "match_joint": ("match_joint",),
    "match_repr": ("match_repr",),
    "clip": ("clip",),
    "unisd_star": ("unisd_star",),
    "induction": ("agreement_seq_induction", "agreement_tok_induction"),
}
