"""HumanEval: Python functions from their docstrings (arXiv 2107.03374). For evaluation only."""

import ast

from unisd.config.task import Task as TaskConfig
from unisd.tasks import code
from unisd.tasks.code_task import CodeTask
from unisd.tasks.rows import RawRow
from unisd.tasks.types import Example, HubDataset, Message

HUB = HubDataset("openai/openai_humaneval", "test", revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544", held_out=True)
INSTRUCTION = (
    "Complete this function. Give the whole function, with the imports that it needs and nothing else, in one fenced "
    "Python block."
)


def humaneval(config: TaskConfig) -> CodeTask:
    """Rows with task_id, prompt, entry_point, canonical_solution and test, which defines `check(candidate)`."""
    return CodeTask(config, HUB, _example, (INSTRUCTION,))


def _example(row: RawRow) -> Example:
    prompt, entry = row.text("prompt"), row.field("entry_point")
    reference = prompt + row.field("canonical_solution")
    return Example(
        id=row.text("task_id"),
        messages=(Message(role="user", content=f"{INSTRUCTION}\n\n{code.fenced(prompt)}"),),
        demonstration=code.fenced(reference),
        query=prompt,
        answer=reference,
        tests=(_test(row), f"check({entry})"),
        setup=_given(row, reference, entry),
    )


def _test(row: RawRow) -> str:
    """What defines `check`, which judges the program."""
    test = row.text("test")
    names = code.defined(code.parsed(test, f"{row.where}: field 'test' is no Python"))
    if "check" not in names:
        raise ValueError(f"{row.where}: field 'test' should define check(candidate), it defines {names}")
    return test


def _given(row: RawRow, reference: str, entry: str) -> str:
    """What the prompt brings beside the function: imports, and helpers that its tests may call."""
    body = code.parsed(reference, f"{row.where}: prompt and canonical_solution are no Python")
    names = code.defined(body)
    if entry not in names:
        raise ValueError(f"{row.where}: field 'entry_point' is {entry!r}, but the code defines {names}")
    before = body[: next(i for i, node in enumerate(body) if isinstance(node, ast.FunctionDef) and node.name == entry)]
    return "\n".join(ast.unparse(node) for node in before)
