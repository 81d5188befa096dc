"""What the warm process imports before stages are forked from it, so that each starts in milliseconds.

Importing starts no thread and touches no GPU: both would not survive the fork.
"""

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads that wait actively for each other slow a training down five times and more where others use the processors
# too, and gain nothing where nobody does. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import peft
import torch
import transformers
import trl

__all__ = ["peft", "torch", "transformers", "trl"]
