"""The output layer of a model as the objective takes it."""

from torch import nn

from unisd.forward.packed import causal_model
from unisd.objective.types import Head


def head_of(model: nn.Module) -> Head:
    """The output layer, with the soft cap of the families that have one.

    Raises:
        ValueError: the layer adds a bias or the family scales its logits, which the objective does not know of.
    """
    core = causal_model(model)
    scaling = getattr(core.config.get_text_config(), "logits_scaling", None) or getattr(
        core.config, "logit_scale", None
    )
    if getattr(core.get_output_embeddings(), "bias", None) is not None or scaling not in (None, 1.0):
        raise ValueError(f"{type(core).__name__} has an output bias or scales its logits: it cannot be trained here")
    # Only some families cap their logits; the others' configurations do not have the field.
    return Head(
        core.get_output_embeddings().weight, getattr(core.config.get_text_config(), "final_logit_softcapping", None)
    )
