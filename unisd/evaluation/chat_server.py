"""Completions from a running OpenAI-compatible server, vLLM's or another: chat messages in, text out.

The server holds the model, templates and tokens; nothing is known of it but its name there. Called by
`unisd evaluate --server`.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout

from unisd.failures import StageError
from unisd.files import Json
from unisd.rollouts.types import Sampling
from unisd.tasks.types import Message

_AT_ONCE = 64
_ATTEMPTS = 4
_SECONDS = 600.0
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class ChatServer:
    """A server, and the model to ask it for."""

    url: str
    """With or without `/v1` at its end."""
    model: str
    key: str = ""

    def completions(
        self,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        schemas: Sequence[Json | None],
        progress: Callable[[int], None],
    ) -> list[Json]:
        """Text, tokens and finished for each prompt, in order; decoding is held to a prompt's schema if it has one.

        Raises:
            StageError: BadInput, the server refuses a request; RolloutCrash, it does not answer.
        """
        return asyncio.run(self._all([_body(*each, sampling) for each in zip(prompts, schemas, strict=True)], progress))

    async def _all(self, bodies: list[Json], progress: Callable[[int], None]) -> list[Json]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        gate, done = asyncio.Semaphore(_AT_ONCE), 0

        async def one(index: int, session: ClientSession) -> Json:
            nonlocal done
            async with gate:
                answer = await self._ask(session, {**bodies[index], "seed": bodies[index]["seed"] + index})
            done += 1
            progress(done)
            return answer

        async with ClientSession(headers=headers, timeout=ClientTimeout(total=_SECONDS, connect=10)) as session:
            return list(await asyncio.gather(*[one(index, session) for index in range(len(bodies))]))

    async def _ask(self, session: ClientSession, body: Json) -> Json:
        url = f"{self.url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"
        trouble = ""
        for attempt in range(_ATTEMPTS):
            try:
                async with session.post(url, json={"model": self.model, **body}) as answer:
                    if answer.status == 200:
                        return _row(await answer.json())
                    trouble = f"{answer.status} {(await answer.text())[:500]}"
                    if answer.status not in _RETRIED:
                        raise StageError("BadInput", f"{url} refuses model {self.model}: {trouble}")
            except (ClientError, TimeoutError, json.JSONDecodeError, LookupError, TypeError) as error:
                trouble = f"{type(error).__name__}: {error}"
            await asyncio.sleep(0.5 * 2**attempt)
        raise StageError("RolloutCrash", f"{url} did not answer {_ATTEMPTS} times: {trouble}")


def _body(messages: Sequence[Message], schema: Json | None, sampling: Sampling) -> Json:
    body: Json = {
        "messages": list(messages),
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    if schema is not None:
        named = {"name": "answer", "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _row(answer: Json) -> Json:
    """Text, tokens and finished; raises LookupError or TypeError for what is no chat completion."""
    choice = answer["choices"][0]
    tokens = int((answer.get("usage") or {}).get("completion_tokens", 0))
    text = choice["message"]["content"] or ""
    return {"text": text, "tokens": tokens, "finished": choice["finish_reason"] == "stop"}
