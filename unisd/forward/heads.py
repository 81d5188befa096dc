"""The output layer of a model as the objective takes it."""

from torch import nn

from unisd.forward.packed import causal_model
from unisd.objective.types import Head


def head_of(model: nn.Module) -> Head:
    """The output layer, with the soft cap of the families that have one."""
    core = causal_model(model)
    # Only some families cap their logits; the others' configurations do not have the field.
    return Head(
        core.get_output_embeddings().weight, getattr(core.config.get_text_config(), "final_logit_softcapping", None)
    )
