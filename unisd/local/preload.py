"""What the warm process imports before stages are forked from it, so that each starts in milliseconds.

Importing starts no thread and touches no GPU: both would not survive the fork.
"""

import os
import warnings

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads that wait actively for each other slow a training down five times and more where others use the processors
# too, and gain nothing where nobody does. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import peft
import torch
import transformers
import trl

# A log's end is what a failure is told with: bars and what others have to say to each other would push it out.
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)

__all__ = ["peft", "torch", "transformers", "trl"]
