"""From chat messages to token ids: one template, one beginning of text, one stop token. Knows no task and no model."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from unisd.tasks.types import Message


def prompt_ids(tokenizer: Any, messages: Sequence[Message], prefix: str = "") -> list[int]:
    """Token ids of a prompt with the assistant's turn opened, and begun with `prefix` if one is given.

    Raises:
        ValueError: the tokenizer has no chat template, or its template refuses the messages.
    """
    text = _rendered(tokenizer, messages, generation_prompt=True) + prefix
    return _ids(tokenizer, text)


def completion_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of an assistant's text and of the token that ends its turn, as the template writes it."""
    return [*_ids(tokenizer, text), turn_end_id(tokenizer)]


def turn_end_id(tokenizer: Any) -> int:
    """The special token with which the chat template ends an assistant's turn.

    Raises:
        ValueError: the template ends the turn with no special token.
    """
    question: Message = {"role": "user", "content": "q"}
    opened = _rendered(tokenizer, [question], generation_prompt=True)
    whole = _rendered(tokenizer, [question, {"role": "assistant", "content": "answer"}], generation_prompt=False)
    ending = _ids(tokenizer, whole.removeprefix(opened).removeprefix("answer"))
    special = [token for token in ending if token in set(tokenizer.all_special_ids)]
    if special:
        return special[0]
    if tokenizer.eos_token_id is None:
        raise ValueError("the chat template ends an assistant's turn with no special token, and there is no EOS token")
    return int(tokenizer.eos_token_id)


def _rendered(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template: use an instruction-tuned model, or add one to it")
    try:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt, enable_thinking=False
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ValueError(
            f"the model's chat template refuses messages of {roles}: {error}; give rows and contexts.layout of roles "
            "that it takes, or another model"
        ) from None
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of text that holds its special tokens already: none are added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
