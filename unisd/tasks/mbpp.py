"""MBPP: short Python functions with assertions (arXiv 2108.07732), sanitized or full."""

import ast
from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks import code
from unisd.tasks.rows import HubDataset, RawRow, check_unique, load_rows, sampled
from unisd.tasks.types import Example, Grade, Message, NegativeRequest, Split

_NAME, _REVISION = "google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
HUB = {subset: HubDataset(_NAME, "test", revision=_REVISION, config=subset) for subset in ("sanitized", "full")}
INSTRUCTION = (
    "Write this function, and nothing else, in one fenced Python block. Include the imports that it needs, and use the "
    "name and arguments that the tests use."
)


class Mbpp:
    """Rows of either edition: prompt or text, code, test_list, and test_imports or test_setup_code."""

    name = "mbpp"
    metric = "pass@1"
    instructions: tuple[str, ...] = (INSTRUCTION,)

    def __init__(self, config: TaskConfig) -> None:
        self._config = config

    def examples(self, split: Split) -> list[Example]:
        hub = HUB[self._config.subset or "sanitized"]
        rows = load_rows(self._config.source, hub, split, self._config.seed)
        examples = [_example(row) for row in rows]
        check_unique([(example.id, row.where) for example, row in zip(examples, rows, strict=True)])
        limit = self._config.max_train_examples if split == "train" else self._config.max_eval_examples
        return sampled(examples, [example.id for example in examples], limit, self._config.seed)

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        return code.grade(examples, completions)

    def negative_request(self, example: Example) -> NegativeRequest | None:
        return code.negative_request(example, self._config.seed)

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        return code.negative_demonstrations(asked, generated)


def _example(row: RawRow) -> Example:
    text = row.field("prompt" if "prompt" in row.values else "text")
    source = row.field("code").replace("\r\n", "\n")
    tests = tuple(str(test) for test in row.field("test_list", list))
    if not tests:
        raise ValueError(f"{row.where}: field 'test_list' is empty; a program is graded by its tests")
    setup = "\n".join(row.values.get("test_imports") or []) or str(row.values.get("test_setup_code") or "")
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
