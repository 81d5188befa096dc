"""Programs as answers: found in completions, graded in the sandbox, and wrong ones. Shared by all tasks of the kind."""

import ast
import dataclasses
import re
from collections.abc import Sequence
from textwrap import dedent

from unisd.tasks.grading import verdicts
from unisd.tasks.rows import stable_fraction
from unisd.tasks.sandbox import Program
from unisd.tasks.types import Example, Grade, Message, NegativeRequest

MISTAKES = (
    "an off-by-one mistake",
    "a wrong operator",
    "a missing edge case",
    "a wrong return value",
)
_CONFESSION = re.compile(r"#.*\b(?:bug|mistake|wrong|incorrect|off.by.one|missing)", re.IGNORECASE)
# A fence ends as far in as it began, as in a list, or at the margin.
_FENCE = re.compile(
    r"((?:^[^\S\n]+)?)```([A-Za-z0-9_+.-]*)[^\S\n]*\n(.*?)(?:\n(?:\1)?```|\Z)", re.DOTALL | re.MULTILINE
)

_PYTHON = re.compile(r"py(?:thon)?[0-9.]*", re.IGNORECASE)


def extract(completion: str, wanted: Sequence[str] = ()) -> str | None:
    """The program of a completion: the last Python fence, else the first fence, else the text itself.

    Fences that define a `wanted` function go before those that do not: what follows may show how it is called.
    """
    fences = [(language, dedent(body) if indent else body) for indent, language, body in _FENCE.findall(completion)]
    python = [body for language, body in fences if _PYTHON.fullmatch(language)]
    if python:
        defining = [body for body in python if any(f"def {name}(" in body for name in wanted)]
        return str((defining or python)[-1])
    if fences:
        return str(fences[0][1])
    return completion.strip() or None


def fenced(source: str) -> str:
    """A program as a completion shows it."""
    return f"```python\n{source.strip()}\n```"


def parsed(source: str, told: str) -> list[ast.stmt]:
    """The statements of a program of a row. Raises ValueError, which begins with `told`, if it is no Python."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{told}: {error}") from None


def defined(body: Sequence[ast.stmt]) -> list[str]:
    """Names of the functions that statements define."""
    return [node.name for node in body if isinstance(node, ast.FunctionDef)]


def _defined(reference: str) -> tuple[str, ...]:
    """Top-level functions of a reference: what tests mean by such a name, even where a builtin bears it too."""
    try:
        return tuple(defined(parsed(reference, "the reference")))
    except ValueError:  # a user's own reference may be anything
        return ()


def grade(examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
    """Runs every program against its tests; `found` says whether there was one."""
    entries = [_defined(example.answer or "") for example in examples]
    sources = [extract(*pair) for pair in zip(completions, entries, strict=True)]
    programs = [
        Program(source or "", example.tests, example.setup, entry=entry)
        for example, source, entry in zip(examples, sources, entries, strict=True)
    ]
    return [
        Grade(correct=source is not None and verdict.passed, found=source is not None, answer=verdict.outcome)
        for source, verdict in zip(sources, verdicts(programs), strict=True)
    ]


def called(source: str, tests: Sequence[str]) -> ast.FunctionDef:
    """The top-level function of a program that tests call first: it need not be the first that is defined.

    Raises:
        ValueError: program or tests are no Python, or no function of the program is called.
    """
    try:
        functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
        names = [node.id for test in tests for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)]
    except SyntaxError as error:
        raise ValueError(f"code or tests are no Python: {error}") from None
    for name in names:
        if name in functions:
            return functions[name]
    raise ValueError(f"no function of the code is called by its tests; they call {sorted(set(names))}")


def negative_request(example: Example, seed: int) -> NegativeRequest | None:
    """Has the reference written again with one mistake, of a kind that a stable hash assigns.

    What stands before the body of the function that the tests call is ours, so that the wrong program has the same
    imports, helpers and signature. None where there are no tests, or the reference is no such program.
    """
    reference = extract(example.demonstration) or ""
    try:
        head = _head(reference, called(reference, example.tests))
    except ValueError:
        return None
    mistake = MISTAKES[int(stable_fraction(f"{example.id}/negative", seed) * len(MISTAKES))]
    content = (
        f"{example.messages[-1]['content']}\n\nThis is a right solution:\n{fenced(reference)}\n\n"
        f"Write it again with {mistake}. It must run and look right, fail at least one test, and have no comments."
    )
    return NegativeRequest(
        messages=(*example.messages[:-1], Message(role="user", content=content)),
        prefix=f"```python\n{head}",
        answer=mistake,
        frame=fenced(head),
    )


def _head(source: str, function: ast.FunctionDef) -> str:
    """A program up to the colon after a function's signature."""
    first = function.body[0]
    lines = source.splitlines(keepends=True)
    before = "".join(lines[: first.lineno - 1])
    return (before + lines[first.lineno - 1].encode()[: first.col_offset].decode()).rstrip()


def negative_demonstrations(
    asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
) -> list[str | None]:
    """Wrong programs in the form of right ones, each executed: kept only if a test fails, by whatever error."""
    programs = [_written(example, request, text) for (example, request), text in zip(asked, generated, strict=True)]
    tried = [
        (dataclasses.replace(example, id=str(index)), program)
        for index, ((example, _), program) in enumerate(zip(asked, programs, strict=True))
        if program is not None
    ]
    grades = grade([example for example, _ in tried], [program for _, program in tried])
    wrong = {
        int(example.id): program
        for (example, program), found in zip(tried, grades, strict=True)
        if found.answer in ("failed", "error")
    }
    return [wrong.get(index) for index in range(len(asked))]


def _written(example: Example, request: NegativeRequest, generated: str) -> str | None:
    """The program that was written, fenced; None if it is no Python, says what is wrong, or is the reference."""
    reference = extract(example.demonstration) or ""
    source = extract(request.prefix + generated, _defined(reference)) or ""
    try:
        same = ast.dump(ast.parse(source)) == ast.dump(ast.parse(reference))
    except (SyntaxError, ValueError):
        return None
    return None if same or _CONFESSION.search(source) else fenced(source)
