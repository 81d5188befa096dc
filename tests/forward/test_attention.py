"""Which precision packed attention is computed in; its results are compared in test_architectures."""

import pytest
import torch

from unisd.forward.attention import narrow_type

QUERY = torch.zeros(1, 2, 3, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_narrow_stays_so(dtype):
    assert narrow_type(QUERY.to(dtype)) is dtype


def test_float32_is_kept_unless_autocast_is_on():
    """Weights that are all trained are float32 under autocast, and so are rotated queries: the kernel refuses those."""
    assert narrow_type(QUERY) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert narrow_type(QUERY) is torch.bfloat16
