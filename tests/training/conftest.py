"""Trains one component on the tiny model, in this process."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from unisd.rundir import RunDir

Weights = dict[str, torch.Tensor]


@pytest.fixture
def trained(make_run: Callable[..., Any], carry_out: Callable[..., None]) -> Callable[..., RunDir]:
    """Prepares and trains one component anew; returns the run's directory."""

    def train(component: dict[str, Any], rows: int = 8, **spec: Any) -> RunDir:
        run, directory = make_run(rows, components=[component], **spec)
        shutil.rmtree(directory.root, ignore_errors=True)
        carry_out(run, directory, "prepare", "contexts", "train")
        return directory  # type: ignore[no-any-return]

    return train


@pytest.fixture
def weights() -> Callable[[RunDir, str], Weights]:
    """The adapter that an arm ended with."""
    return lambda directory, arm: load_file(directory.train(arm) / "adapter" / "adapter_model.safetensors")


@pytest.fixture
def same() -> Callable[[Weights, Weights], bool]:
    """Whether two sets of weights are equal to the bit."""
    return lambda a, b: a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
