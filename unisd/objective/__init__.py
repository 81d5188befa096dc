"""Tensors in, tensors out: the loss of self-distillation, its parts, and what divides by what.

Pure: no configuration files, no models, no clock. `naive` is the readable oracle, `fused` is what trains."""
