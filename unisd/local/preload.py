"""What the warm process imports before stages are forked from it, so that each starts in milliseconds.

Importing starts no thread and touches no GPU: both would not survive the fork.
"""

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import peft
import torch
import transformers
import trl

__all__ = ["peft", "torch", "transformers", "trl"]
