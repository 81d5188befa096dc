"""Fields with a closed set of words, each set once: read by the models, by flags, and by whatever tells them apart.

Nothing but words, so that the command line can offer them without loading the models.
"""

from typing import Literal

Grading = Literal["none", "exact", "regex", "multipleChoice", "python"]
"""How completions for one's own rows are graded."""
Precision = Literal["bfloat16", "float32"]
"""In what training, scoring and serving compute."""
Layout = Literal["marker", "turns"]
"""How a demonstration stands in a prompt (docs/contexts.md)."""
ContextSource = Literal["random", "retrieval", "induction"]
"""Where auxiliary contexts come from."""
Engine = Literal["vllm", "transformers"]
"""What samples completions."""
