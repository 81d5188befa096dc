"""One completion as an evaluation keeps it: what was written, what was found in it. Pure.

Made by the stage and by `unisd evaluate --model`, a line each of items-TASK.jsonl; read by `figures` and the report.
"""

from unisd.files import Json
from unisd.tasks.types import Example, Grade


def item_of(example: Example, grade: Grade, *, text: str, tokens: int, finished: bool) -> Json:
    """The item of a row and its grade; `finished` says whether the completion came to its own end."""
    return {
        "id": example.id,
        "completion": text,
        "tokens": tokens,
        "finished": finished,
        "correct": grade.correct,
        "found": grade.found,
        "answer": grade.answer,
        "expected": example.answer,
        "parts": dict(grade.parts),
        "groups": dict(example.groups),
    }
