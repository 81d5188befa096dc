"""How demonstrations are laid out in a prompt. Pure text; called by everything that builds a teacher's prompt.

Two layouts (docs/contexts.md): `marker` puts the demonstration into the user's message, `turns` makes it an assistant's
turn before the question is asked again. Positive and negative contexts come from one function and differ in nothing but
the demonstration. Auxiliary contexts show other examples, never the one at hand.
"""

from collections.abc import Sequence

from unisd.config.choices import Layout
from unisd.tasks.types import Example, Message

SAMPLE = "This is a sample response to the question above:"
CLOSING = "Read the sample response with care, then give your own response in your own words."
REFERENCE = "Another task with its solution, for reference only. Do not solve it again:"
SOLUTION = "Its solution:"
OWN = "Now solve only the following task:"
INDUCED = "General advice for tasks of this kind:"
INSTRUCTIONS: tuple[str, ...] = (SAMPLE, CLOSING, REFERENCE, OWN, INDUCED)
"""Every sentence that the layouts add, to notice completions that repeat them."""


def teacher_messages(example: Example, demonstration: str, layout: Layout) -> list[Message]:
    """The context of a teacher that is shown a demonstration of this very example, right or wrong."""
    *before, question = example.messages
    if layout == "turns":
        return [*before, question, {"role": "assistant", "content": demonstration}, question]
    content = f"{question['content']}\n\n{SAMPLE}\n{demonstration}\n\n{CLOSING}"
    return [*before, {"role": "user", "content": content}]


def auxiliary_messages(example: Example, donors: Sequence[Example], layout: Layout) -> list[Message]:
    """The context of an auxiliary teacher: other examples with their demonstrations, then the question alone."""
    *before, question = example.messages
    if layout == "turns":
        shown: list[Message] = []
        for donor in donors:
            shown += [donor.messages[-1], {"role": "assistant", "content": donor.demonstration}]
        return [*before, *shown, question]
    blocks = [
        f"{REFERENCE}\n{donor.messages[-1]['content']}\n\n{SOLUTION}\n{donor.demonstration}\n\n" for donor in donors
    ]
    return [*before, {"role": "user", "content": f"{''.join(blocks)}{OWN}\n{question['content']}"}]


def induced_messages(example: Example, instruction: str) -> list[Message]:
    """The context of an auxiliary teacher that is given an induced instruction; the same in both layouts."""
    *before, question = example.messages
    return [*before, {"role": "user", "content": f"{INDUCED}\n{instruction}\n\n{OWN}\n{question['content']}"}]
