"""From rows to a trained adapter: rows, the phases of a step, the loop around them, checkpoints."""
