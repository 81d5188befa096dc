"""From rows to a trained adapter: batches, forward passes, the trainer, checkpoints."""
