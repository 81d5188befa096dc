"""How far trainings and stages are, asked of their pods: `GET http://POD:9400/progress`, many at once.

Called by `process` every `progress_seconds`. The API server is not involved, and pods carry no token. An answer that
does not come is an answer too: it says why.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import aiohttp

from unisd_operator.observed import Answer, PodState
from unisd_operator.planning import ports
from unisd_operator.untrusted import parsed

# Seconds for one answer: a pod that computes must not be taken for one that is gone.
_TIMEOUT = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0)
_AT_ONCE = 64
_MAX_BYTES = 2**16


def source(pod: PodState) -> str | None:
    """Which arm or stage a pod answers for; None if it does not."""
    if pod.phase != "Running" or not pod.ip or pod.deleting_since is not None:
        return None
    if pod.role == "train" and pod.index == 0:
        return pod.arm
    return pod.role if pod.role in ("prepare", "contexts", "report") and pod.arm is None else None


async def ask(pods: Iterable[PodState]) -> list[Answer]:
    """The answers of pods, in their order."""
    room = asyncio.Semaphore(_AT_ONCE)
    # Compressed, a small answer may unfold into one that does not fit the memory; stages do not compress theirs.
    async with aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False) as session:
        return await asyncio.gather(*(_ask(session, pod, room) for pod in pods))


async def _ask(session: aiohttp.ClientSession, pod: PodState, room: asyncio.Semaphore) -> Answer:
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    try:
        # Not sent on to anywhere else: a pod may not choose what the operator asks for.
        url = f"http://{host}:{ports.METRICS}/progress"
        async with room, session.get(url, allow_redirects=False) as answer:
            answer.raise_for_status()
            values = parsed(await _body(answer))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        said = str(error) or type(error).__name__
        return Answer(datetime.now(UTC), error=f"no progress from pod {pod.name} ({host}:{ports.METRICS}): {said}")
    if not isinstance(values, dict):
        return Answer(datetime.now(UTC), error=f"pod {pod.name} answered {type(values).__name__}, not an object")
    return Answer(datetime.now(UTC), values)


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """An answer to its end. Raises ValueError for one that is too long."""
    body = b""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MAX_BYTES:
            raise ValueError(f"its answer has more than {_MAX_BYTES} bytes")
    return body
