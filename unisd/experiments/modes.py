"""The subcommands of `unisd experiments`, and the modes of each: names of presets, by what they have in common.

Read by the parser, and so nothing but names.
"""

from unisd.config.presets import PRESETS, PresetName

MODES: dict[str, tuple[PresetName, ...]] = {
    "agreement": tuple(name for name in PRESETS if name.startswith("agreement_")),
    "ema": ("ema",),
    "contrastive": ("contrastive",),
    "match_joint": ("match_joint",),
    "match_repr": ("match_repr",),
    "clip": ("clip",),
    "unisd_star": ("unisd_star",),
    "induction": tuple(name for name in PRESETS if name.endswith("_induction")),
}
