"""MBPP: short Python functions with assertions (arXiv 2108.07732), sanitized or full."""

import ast
from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks import code
from unisd.tasks.code_task import CodeTask
from unisd.tasks.rows import RawRow
from unisd.tasks.types import Example, HubDataset, Message

_NAME, _REVISION = "google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
HUB = {
    subset: HubDataset(_NAME, "test", revision=_REVISION, config=subset, licence="CC BY 4.0")
    for subset in ("sanitized", "full")
}
INSTRUCTION = (
    "Write this function, and nothing else, in one fenced Python block. Include the imports that it needs, and use the "
    "name and arguments that the tests use."
)


def mbpp(config: TaskConfig) -> CodeTask:
    """Rows of either edition: prompt or text, code, test_list, and test_imports or test_setup_code."""
    return CodeTask(config, HUB[config.subset or "sanitized"], _example, (INSTRUCTION,))


def _example(row: RawRow) -> Example:
    text = row.text("prompt" if "prompt" in row.values else "text")
    source = row.text("code").replace("\r\n", "\n")
    tests = row.texts("test_list")
    if not tests:
        raise ValueError(f"{row.where}: field 'test_list' is empty; a program is graded by its tests")
    imports = row.texts("test_imports") if row.values.get("test_imports") else ()
    setup = "\n".join(imports) or row.optional("test_setup_code")
    shown = "\n".join(tests)
    content = f"{text}\n\nSignature: {_signature(row, source, tests)}\nTests:\n{shown}\n\n{INSTRUCTION}"
    return Example(
        id=f"mbpp/{row.field('task_id', (int, str))}",
        messages=(Message(role="user", content=content),),
        demonstration=code.fenced(source),
        query=text,
        answer=source,
        tests=tests,
        setup=setup,
    )


def _signature(row: RawRow, source: str, tests: Sequence[str]) -> str:
    """The head of the function that the tests call."""
    try:
        function = code.called(source, tests)
    except ValueError as error:
        raise ValueError(f"{row.where}: {error}") from None
    return f"def {function.name}({ast.unparse(function.args)}):"
