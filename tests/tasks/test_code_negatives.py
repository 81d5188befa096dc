"""Wrong programs as demonstrations: executed, kept only if a test fails, in the form of right ones."""

import pytest

from unisd.tasks import code
from unisd.tasks.types import Example, Message

SOURCE = 'import math\n\ndef helper(x):\n    return x\n\ndef area(a, b=2):\n    """Doc."""\n    return helper(a) * b'


def example(source=SOURCE, tests=("assert area(3) == 6", "assert area(3, 3) == 9")):
    return Example(
        id="x",
        messages=(Message(role="user", content="Write area."),),
        demonstration=code.fenced(source),
        query="area",
        answer=source,
        tests=tests,
    )


def test_everything_before_the_body_is_ours():
    request = code.negative_request(example(), 0)
    assert request.prefix == "```python\nimport math\n\ndef helper(x):\n    return x\n\ndef area(a, b=2):"
    assert request.answer in code.MISTAKES
    assert SOURCE in request.messages[-1]["content"]


@pytest.mark.parametrize(
    ("source", "head"),
    [
        ("def area(a): return a", "def area(a):"),
        ("def area(\n    a,\n    b,\n):\n    return a", "def area(\n    a,\n    b,\n):"),
        ("def area(a):\n    # why\n    return a", "def area(a):\n    # why"),
        ("def area(ä): return 'ü'", "def area(ä):"),
    ],
)
def test_heads_of_programs(source, head):
    assert code.negative_request(example(source, ("assert area(1) == 1",)), 0).prefix == f"```python\n{head}"


def test_only_programs_that_fail_a_test_are_kept():
    one = example()
    request = code.negative_request(one, 0)
    bodies = {
        "\n    return helper(a) + b\n```\nThat is it.": True,
        "\n    return helper(a) - b\n```\nTry it:\n```python\nprint(area(2))\n```": True,
        "\n    return helper(a) * b\n```": False,  # right
        '\n    """Doc."""\n    return helper(a) * b': False,  # the reference
        "\n    return undefined": True,  # a test raises
        "\n    return helper(a": False,  # no Python
        "\n    # the bug is here\n    return a": False,  # says what is wrong
        "\n    while True: pass": False,  # never ends
        "": False,
    }
    found = code.negative_demonstrations([(one, request)] * len(bodies), list(bodies))
    assert [wrong is not None for wrong in found] == list(bodies.values())
    assert found[0] == code.fenced(SOURCE.replace('    """Doc."""\n', "").replace("* b", "+ b"))
    assert found[1] == found[0].replace("+ b", "- b")


def test_no_request_where_tests_call_nothing_of_the_reference():
    assert code.negative_request(example("x = 1", ("assert True",)), 0) is None
    assert code.negative_request(example("not python(", ("assert True",)), 0) is None
    assert code.negative_request(example(tests=()), 0) is None
