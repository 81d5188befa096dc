"""Attention over packed rows: several sequences in one row of the batch, no padding, none sees another.

Registered with Transformers under `PACKED`; a forward pass with `cu_seq_lens_q` and without attention mask is packed,
any other falls back to SDPA. On a GPU one variable-length kernel does it, on a CPU and in float32 one causal SDPA call
per sequence, which costs no masked work. The adapter `_varlen` is the only place that knows torch's version.
"""

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad as padded
from torch.nn.functional import scaled_dot_product_attention

PACKED = "unisd_packed"


def register_packed_attention() -> None:
    """Makes `PACKED` known to Transformers; call it before `model.set_attn_implementation(PACKED)`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    def mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
        if attention_mask is None:
            return None
        dense: torch.Tensor | None = sdpa_mask(*args, attention_mask=attention_mask, **kwargs)
        return dense

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, mask)


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in Transformers' interface: query [B, heads, L, D] in, [B, L, heads, D] out."""
    cu_seqlens = kwargs.get("cu_seq_lens_q")
    if cu_seqlens is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return out, None
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    window = kwargs.get("sliding_window")
    narrow = narrow_type(query)
    if query.is_cuda and narrow is not None:
        longest, (query, key, value) = kwargs["max_length_q"], (tensor.to(narrow) for tensor in (query, key, value))
        return _varlen(query, key, value, cu_seqlens=cu_seqlens, longest=longest, scaling=scaling, window=window), None
    outputs = [
        scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            attn_mask=_window_mask(end - start, window, query.device),
            is_causal=window is None or end - start <= window,
            scale=scaling,
            enable_gqa=True,
        )
        for start, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def narrow_type(query: torch.Tensor) -> torch.dtype | None:
    """The 16-bit type that attention is computed in, which is all the kernel knows; None where that is float32.

    Under autocast it is autocast's: rotated queries and keys come in float32 where weights are.
    """
    kind = query.device.type
    wanted = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    return wanted if wanted in (torch.bfloat16, torch.float16) else None


def _window_mask(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if window is None or length <= window:
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    cu_seqlens: torch.Tensor,
    longest: int,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """One kernel for all sequences of a pack; [1, heads, L, D] in, [1, L, heads, D] out."""
    from torch.nn.attention.varlen import varlen_attn

    parameters = inspect.signature(varlen_attn).parameters
    flat_q, flat_k, flat_v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    if "window_size" in parameters:
        causal: dict[str, Any] = {"window_size": (-1 if window is None else window - 1, 0)}
    elif window is None or longest <= window:
        causal = {"is_causal": True}
        groups = flat_q.shape[1] // flat_k.shape[1]
        flat_k, flat_v = flat_k.repeat_interleave(groups, dim=1), flat_v.repeat_interleave(groups, dim=1)
    else:
        raise ValueError(
            f"sequences of {longest} tokens exceed this model's attention window of {window}, which torch "
            f"{torch.__version__} cannot pack: set training.attention to eager or flash_attention_2"
        )
    dim = flat_q.shape[-1]
    if "scale" in parameters:
        causal["scale"] = scaling
    else:  # the kernel divides by sqrt(dim); fold a model's own scaling into the queries
        flat_q = flat_q * (scaling * dim**0.5)
    room = -dim % 8
    if room:
        flat_q, flat_k, flat_v = (padded(tensor, (0, room)) for tensor in (flat_q, flat_k, flat_v))
        flat_q = flat_q * ((dim + room) / dim) ** 0.5 if "scale" not in parameters else flat_q
    out = varlen_attn(flat_q, flat_k, flat_v, cu_seqlens, cu_seqlens, longest, longest, **causal)
    assert isinstance(out, torch.Tensor)
    return out[None, :, :, :dim]
