"""Layouts, neighbours and negatives: what teachers are shown, and what they must not be."""

import pytest

from unisd.config.task import Contexts
from unisd.contexts.layout import auxiliary_messages, teacher_messages
from unisd.contexts.negatives import negatives
from unisd.contexts.neighbours import neighbours
from unisd.models import load_tokenizer
from unisd.rollouts.types import Completion, Sampling
from unisd.tasks.types import Example, Message, NegativeRequest


def example(identity, query="What is it?", demonstration=None):
    return Example(
        id=identity,
        messages=(Message(role="user", content=f"Question: {query}"),),
        demonstration=demonstration or f"Reasoning: {identity}.\nAnswer: A",
        query=query,
        answer="A",
        choices=("x", "y"),
    )


POOL = [
    example(f"id{i}", f"Why does the {word} sleep at night?")
    for i, word in enumerate(["cat", "dog", "cow", "hen", "owl", "pig"])
]


@pytest.mark.parametrize("layout", ["marker", "turns"])
def test_right_and_wrong_contexts_differ_in_the_demonstration_alone(layout):
    right, wrong = (teacher_messages(POOL[0], text, layout) for text in ("RIGHT", "WRONG"))
    assert [m["role"] for m in right] == (["user"] if layout == "marker" else ["user", "assistant", "user"])
    assert str(right).replace("RIGHT", "WRONG") == str(wrong)
    assert "RIGHT" in str(right)


@pytest.mark.parametrize("layout", ["marker", "turns"])
def test_auxiliary_contexts_show_others_and_never_the_own_demonstration(layout):
    messages = auxiliary_messages(POOL[0], POOL[1:3], layout)
    text = "\n".join(m["content"] for m in messages)
    assert POOL[0].demonstration not in text
    assert all(donor.demonstration in text and donor.query in text for donor in POOL[1:3])
    assert messages[-1]["content"].endswith(POOL[0].messages[-1]["content"])


@pytest.mark.parametrize("source", ["random", "retrieval"])
def test_nobody_gets_himself_or_a_copy_of_himself(source):
    pool = [*POOL, example("copy", "why does the CAT  sleep at night?"), example("far", "How tall is a tower?")]
    found = neighbours(pool, Contexts(source=source, retriever="bm25"), 4, seed=0)
    assert all(len(donors) == len(set(donors)) == 4 for donors in found.values())
    assert not {"id0", "copy"} & {*found["id0"], *found["copy"]}
    assert all(identity not in donors for identity, donors in found.items())
    assert found == neighbours(pool, Contexts(source=source, retriever="bm25"), 4, seed=0)
    fewer = neighbours(pool, Contexts(source=source, retriever="bm25"), 2, seed=0)
    if source == "random":
        assert all(found[identity][:2] == donors for identity, donors in fewer.items())
        assert found != neighbours(pool, Contexts(source=source), 4, seed=1)


def test_retrieval_finds_the_nearest():
    pool = [*POOL, example("tower", "How tall is the old tower?"), example("tall", "How tall is a young tower?")]
    found = neighbours(pool, Contexts(retriever="bm25"), 1, seed=0)
    assert found["tower"] == ["tall"]
    assert found["tall"] == ["tower"]


def test_a_pool_that_is_too_small():
    with pytest.raises(ValueError, match=r"asks for 6 other examples .* has only 5 in a pool of 6"):
        neighbours(POOL, Contexts(source="random"), 6, seed=0)


class FakeEngine:
    """Answers with given texts, one per round."""

    def __init__(self, tokenizer, texts):
        self.tokenizer, self.texts, self.prompts, self.seeds = tokenizer, texts, [], []

    def generate(self, prompts, sampling):
        self.prompts.append(list(prompts))
        self.seeds.append(sampling.seed)
        for index in range(len(prompts)):
            ids = self.tokenizer(self.texts[len(self.prompts) - 1], add_special_tokens=False)["input_ids"]
            yield Completion(index, tuple(ids), (0.0,) * len(ids), finished=True)


class FakeTask:
    """Asks for a text that contains "good"."""

    def negative_request(self, found):
        if found.id == "id5":
            return None
        return NegativeRequest(found.messages, "It is B, because", "B", frame="B")

    def negative_demonstrations(self, asked, generated):
        return [
            f"{text.strip()} {request.answer}" if "good" in text else None
            for (_, request), text in zip(asked, generated, strict=True)
        ]


def test_negatives_are_asked_for_again_then_left_out(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    given = Example(**{**vars(POOL[0]), "negative": "given"})
    engine = FakeEngine(tokenizer, ["bad", "good one", "never"])
    found = negatives([given, *POOL[1:]], FakeTask(), engine, tokenizer, Sampling(0.7, 8, seed=4))
    assert [row["id"] for row in found] == ["id0", "id1", "id2", "id3", "id4"]
    assert found[0]["demonstration"] == "given"
    assert found[1] == {"id": "id1", "answer": "B", "demonstration": "good one B", "attempts": 2}
    assert len(engine.prompts) == 2
    assert len(set(engine.seeds)) == 2
    assert tokenizer.decode(engine.prompts[0][0]).endswith("It is B, because")
    hopeless = negatives(POOL, FakeTask(), FakeEngine(tokenizer, ["bad"] * 3), tokenizer, Sampling(0.7, 8))
    assert hopeless == []
