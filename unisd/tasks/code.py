"""Programs as answers: found in completions, graded in the sandbox. Shared by every task of the kind."""

import ast
import re
from collections.abc import Sequence

from unisd.tasks.types import Example, Grade

_FENCE = re.compile(r"```([A-Za-z0-9_+-]*)[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def extract(completion: str) -> str | None:
    """The program of a completion: the last Python fence, else the first fence, else the text itself."""
    fences = _FENCE.findall(completion)
    python = [body for language, body in fences if language.lower() in ("python", "py", "python3")]
    if python:
        return str(python[-1])
    if fences:
        return str(fences[0][1])
    return completion.strip() or None


def fenced(source: str) -> str:
    """A program as a completion shows it."""
    return f"```python\n{source.strip()}\n```"


def _defined(reference: str) -> tuple[str, ...]:
    """Top-level functions of a reference: what tests mean by such a name, even where a builtin bears it too."""
    try:
        body = ast.parse(reference).body
    except SyntaxError:  # a user's own reference may be anything
        return ()
    return tuple(node.name for node in body if isinstance(node, ast.FunctionDef))


def grade(examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
    """Runs every program against its tests; `found` says whether there was one."""
    from unisd.tasks.sandbox import Program, run_programs

    sources = [extract(completion) for completion in completions]
    programs = [
        Program(source or "", example.tests, example.setup, entry=_defined(example.answer or ""))
        for example, source in zip(examples, sources, strict=True)
    ]
    verdicts = run_programs(programs)
    return [
        Grade(correct=source is not None and verdict.passed, found=source is not None, answer=verdict.outcome)
        for source, verdict in zip(sources, verdicts, strict=True)
    ]
