"""Induced instructions: disjoint seeded sets, no solution told, asked for again, never of a set with the example."""

import dataclasses

import pytest

from unisd.config.task import Contexts
from unisd.contexts import induction
from unisd.failures import StageError
from unisd.tasks.types import Example, Message

GOOD = "Read the question with care. Compare every option with it. Choose the one that fits best."
EXAMPLES = [
    Example(
        id=f"id{number}",
        messages=(Message(role="user", content=f"Question number {number}?"),),
        demonstration=f"Reasoning: the old tower number {number} is made of red bricks.\nAnswer: B",
        query=f"Question number {number}?",
        answer="B",
        choices=("x", f"a red tower {number}"),
    )
    for number in range(12)
]
CONTEXTS = Contexts(source="induction", demonstrations_per_context=3, count=3)


def made(writer, examples=EXAMPLES, contexts=CONTEXTS, seed=0):
    return induction.instructions(examples, contexts, seed, writer=writer, progress=lambda _done: None)


def test_sets_are_disjoint_seeded_and_independent_of_order():
    sets = induction.demonstration_sets(EXAMPLES, 3, 0)
    ids = [[example.id for example in shown] for shown in sets]
    assert sorted(identity for shown in ids for identity in shown) == sorted(example.id for example in EXAMPLES)
    again = induction.demonstration_sets(EXAMPLES[::-1], 3, 0)
    assert ids == [[example.id for example in shown] for shown in again]
    assert ids != [[example.id for example in shown] for shown in induction.demonstration_sets(EXAMPLES, 3, 1)]
    many = [dataclasses.replace(EXAMPLES[0], id=str(number)) for number in range(500)]
    assert len(induction.demonstration_sets(many, 2, 0)) == 100


def test_requests_show_solved_examples_in_the_chat_template(make_writer):
    writer, engine = make_writer(GOOD)
    found = made(writer)
    assert [row["instruction"] for row in found] == [GOOD] * 4
    sets = induction.demonstration_sets(EXAMPLES, 3, 0)
    assert [row["examples"] for row in found] == [[example.id for example in shown] for shown in sets]
    prompt = engine.prompts[0][0]
    assert all(example.demonstration in prompt and example.query in prompt for example in sets[0])
    assert prompt.endswith(writer.tokenizer.decode(writer.tokenizer.encode("<|im_start|>assistant\n")))
    assert engine.samplings[0].max_tokens == CONTEXTS.max_generated_tokens


def test_invalid_ones_are_asked_for_again_then_left_out(make_writer):
    writer, engine = make_writer(
        [GOOD, "short", "The old tower number 3 is made of red bricks. So choose it here now.", "```x```"],
        ["no", GOOD, "no"],
        "no",
    )
    found = made(writer)
    assert [row["attempts"] for row in found] == [1, 2]
    assert [len(prompts) for prompts in engine.prompts] == [4, 3, 2]
    assert len({sampling.seed for sampling in engine.samplings}) == 3


def test_what_was_written_is_kept(make_writer):
    writer, _ = make_writer(GOOD)
    found = made(writer)
    again, idle = make_writer()
    assert made(again) == found
    assert idle.prompts == []
    other, engine = make_writer(GOOD)
    made(other, contexts=CONTEXTS.model_copy(update={"demonstrations_per_context": 4}))
    made_with_seed, reseeded = make_writer(GOOD)
    made(made_with_seed, seed=1)
    assert (len(engine.prompts), len(reseeded.prompts)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (GOOD, GOOD),
        (f"**Instruction:** {GOOD}", GOOD),
        (f"{GOOD} Fourth one. Fifth one is cut.", f"{GOOD} Fourth one."),
        ("Read the question and think about it. And then you", "Read the question and think about it."),
        ("Too short.", None),
        ("It has just five words.", None),
        ("It has no more than six.", "It has no more than six."),
        ("", None),
        ("no sentence ends here at all whatever you do", None),
        ("Remember that the old tower number is tall, whatever they ask you.", "Remember that the old tower number is tall, whatever they ask you."),
        ("Know that the old tower number 3 is made of bricks, whatever they ask you.", None),
        ("When in doubt always choose a red tower 3 whatever they ask of you.", None),
        (f"{GOOD}\n```python\nx\n```", None),
        (f"{GOOD} #### 4", None),
    ],
)  # fmt: skip
def test_validity(text, valid):
    assert induction.valid_instruction(text, [EXAMPLES[3]]) == valid


@pytest.mark.parametrize(
    "demonstration",
    [
        "```python\ndef min_cost(x):\n    return x\n```",
        "Action: getUser\nAction Input: {}",
        "She has 72 clips.\n#### 72",
    ],
)
def test_names_and_numbers_of_a_solution_are_not_told(demonstration):
    example = dataclasses.replace(EXAMPLES[0], demonstration=demonstration, choices=(), answer=None)
    for name in ("min_cost", "getUser", "72"):
        told = f"{GOOD} Think of {name} before you answer."
        assert (induction.valid_instruction(told, [example]) is None) == (name in demonstration)


def test_nobody_is_told_what_was_induced_from_him_or_a_copy_of_him():
    copy = dataclasses.replace(EXAMPLES[0], id="copy", query="question NUMBER 0?")
    found = [
        {"questions": [example.query.lower()], "instruction": f"From {example.id}."} for example in EXAMPLES
    ]  # fmt: skip
    chosen = induction.assigned([*EXAMPLES, copy], found, 3, 0)
    assert all(len(set(told)) == 3 for told in chosen.values())
    assert all(f"From {identity}." not in told for identity, told in chosen.items())
    assert "From id0." not in chosen["copy"]
    assert len({tuple(told) for told in chosen.values()}) > 6
    assert chosen == induction.assigned([*EXAMPLES, copy], found, 3, 0)
    assert induction.assigned([EXAMPLES[0]], found[:4], 3, 0)
    with pytest.raises(StageError, match=r"3 induced instructions are wanted .* but only 2 of 3 valid ones"):
        induction.assigned(EXAMPLES, found[:3], 3, 0)


def test_a_pool_that_is_too_small():
    induction.check_sets(EXAMPLES, CONTEXTS)
    with pytest.raises(ValueError, match="need at least 5 disjoint sets of 3 examples, but 12 examples make 4"):
        induction.check_sets(EXAMPLES, CONTEXTS.model_copy(update={"count": 4}))
