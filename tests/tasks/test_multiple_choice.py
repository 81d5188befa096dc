"""Extraction of answers in the forms that models write, option order, and negatives in one template."""

import dataclasses
from pathlib import Path

import pytest

from unisd.config.task import Source, Task
from unisd.tasks import multiple_choice as mc
from unisd.tasks.catalog import task_for

DATA = Path(__file__).parents[2] / "examples/data/cos_e"
CHOICES = ("a dog", "bank", "cat", "dance", "earth")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Reasoning: x\nAnswer: B", "B"),
        ("answer: b", "B"),
        ("**Answer:** (C)", "C"),
        ("Answer: **D**", "D"),
        ("Answer: E) earth", "E"),
        ("Answer: E.", "E"),
        ("Answer: B\nno, wait\nAnswer: C", "C"),
        ("Answer: bank", "B"),
        ("Answer: A dog", "A"),
        ("Answer: a", "A"),
        ("Answer: A cat sat there", None),
        ("A dog is the one", None),
        ("The answer is D) dance", "D"),
        ("the answer is B.", "B"),
        ("The answer is B. No, the answer is C.", "C"),
        ("The answer is a dog, or perhaps not", None),
        ("Answer: B\nAnswer: none of these", "B"),
        ("Answer: F", None),
        ("Answer:", None),
        ("", None),
        ("I cannot say.", None),
        ("Final answer: C", "C"),
        ("Answer: (b)", "B"),
        ("answer: b and c", None),
        ("Answer: B, C", None),
        ("Answer: A, B, or **D**", None),
        ("Answer: B\nAnswer: C/D", "B"),
        ("Answer: B, a bank", "B"),
        ("Answer\uff1aB", "B"),
        ("Answer: \u201cB\u201d", "B"),
        ("Answer: \uff08B\uff09", "B"),
        ("Answer: $\\boxed{B}$", "B"),
        ("Answer: `B`", "B"),
        ("The answer is `D`.", "D"),
        ("The correct answer: B", "B"),
        ("My final answer: C", "C"),
        ("A wrong answer: B", None),
        ("Answer \u2013 B.", "B"),
        ("Answer - A dog", "A"),
        ("Answer: Option (B)", "B"),
        ("Answer: choice b", "B"),
        ("Answer: \\boxed{\\text{B}}", "B"),
        ("Answer: \\(B\\)", "B"),
        ("Answer: B\u3002", "B"),
        ("The answer is $\\boxed{D}$.", "D"),
        ("**Answer:**\n\n**B**", "B"),
        ("Answer:\nA cat sat there", None),
        ("**(B)**", "B"),
        ("\\boxed{B}", "B"),
        ("I would say\nB", None),
        ("F", None),
    ],
)
def test_extraction(text, letter):
    assert mc.extract(text, CHOICES) == letter


def examples(split="train", **task):
    config = Task(name="cos_e", source=Source(path=str(DATA)), **task)
    return task_for(config), task_for(config).examples(split)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_every_reference_is_right_and_every_other_option_wrong(split):
    task, found = examples(split)
    assert len(found) > 200
    for example in found:
        assert task.grade([example], [example.demonstration])[0].correct
        for index, choice in enumerate(example.choices):
            letter = mc.LETTERS[index]
            same_text = choice == example.choices[mc.LETTERS.index(example.answer)]
            assert task.grade([example], [f"Answer: {letter}"])[0].correct == same_text


def test_option_order_depends_on_id_and_task_seed_alone():
    _, first = examples()
    _, again = examples()
    _, other = examples(seed=1)
    assert [e.choices for e in first] == [e.choices for e in again]
    assert [e.choices for e in first] != [e.choices for e in other]
    answers = [e.answer for e in first]
    assert all(30 < answers.count(letter) < 70 for letter in "ABCDE")


def test_a_smaller_sample_is_part_of_a_larger_one():
    _, small = examples(max_train_examples=20)
    _, large = examples(max_train_examples=50)
    assert len(small) == 20
    assert {e.id for e in small} < {e.id for e in large}


def test_negatives_are_wrong_and_differ_from_positives_in_content_only():
    task, found = examples(max_train_examples=40)
    for example in found:
        request = task.negative_request(example)
        text = " it is so. It must be. Third. Fourth one.\nAnswer: A"
        (wrong,) = task.negative_demonstrations([(example, request)], [text])
        assert not task.grade([example], [wrong])[0].correct
        assert wrong == mc.demonstration("It is so. It must be. Third.", request.answer)
        assert request.answer in request.prefix


@pytest.mark.parametrize("text", ["", "\n\n", "no", "Answer: B", "Reasoning: it is so"])
def test_texts_that_will_not_do_as_negatives(text):
    task, found = examples(max_train_examples=1)
    assert task.negative_demonstrations([(found[0], task.negative_request(found[0]))], [text]) == [None]


def test_a_text_that_two_options_have_is_the_answer_of_both():
    _, found = examples(max_train_examples=1)
    twice = dataclasses.replace(found[0], choices=("x", "y", "x"), answer="C")
    assert mc.grade(twice, "Answer: x").correct
    assert mc.extract("Answer: fe", ("Fe", "FE", "Au")) is None, "it may be either"


def test_no_negative_where_all_options_say_the_same():
    _, found = examples(max_train_examples=1)
    same = dataclasses.replace(found[0], choices=("x", "x"), answer="A")
    assert mc.negative_request(same, 0) is None


def test_a_letter_is_an_options_letter_also_where_it_is_anothers_text():
    assert mc.extract("Answer: Washington D.C.", ("Washington D.C.", "`print`")) == "A"
    assert mc.extract("Answer: print", ("Washington D.C.", "`print`")) == "B"
    assert mc.extract("Answer: A", ("B", "A")) == "A"
    assert mc.extract("Answer: **b**.", ("B", "A")) == "B"
