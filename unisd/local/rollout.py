"""One rollout server in a process of its own: vLLM, started again when it ends, and the policy agent before it.

What a rollout pod is in a cluster, for one machine. Forked by `local.servers`; ends when it is asked to or the runner
dies, and takes vLLM along.
"""

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unisd.local.child import redirect, stand_alone

logger = logging.getLogger(__name__)
ENDS = 3
"""Times in a row that vLLM may end before its server gives up."""
GRACE_SECONDS = 15.0
_STEADY_SECONDS = 600.0
"""Time after which an end counts as the first in a row."""


@dataclass(frozen=True)
class Plan:
    """What one server process is to do."""

    command: tuple[str, ...]
    """vLLM's."""
    environment: Mapping[str, str]
    """vLLM's, beside that of the runner."""
    folder: Path
    """Where its log goes."""
    key: str
    port: int
    """The agent's; vLLM and the agent's metrics have the two others."""
    vllm_port: int
    metrics_port: int


def carry_on(plan: Plan) -> None:
    """The server process: vLLM and its agent, until it is asked to end or vLLM ends too often."""
    stand_alone()
    redirect(plan.folder / "log.txt")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_both(plan))


async def _both(plan: Plan) -> None:
    from unisd.rollouts.agent import AgentSettings, serve

    mine = asyncio.current_task()
    assert mine is not None, "runs as a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, mine.cancel)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="unisd-adapters-", dir=memory) as adapters:
        settings = AgentSettings(f"http://127.0.0.1:{plan.vllm_port}", plan.key, Path(adapters))
        agent = asyncio.create_task(serve(settings, "127.0.0.1", plan.port, plan.metrics_port))
        try:
            await _again_and_again(plan)
        finally:
            agent.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await agent


async def _again_and_again(plan: Plan) -> None:
    """Runs vLLM; one that ends is started again, unless it did so too often within a short time."""
    ends = 0
    while ends < ENDS:
        began = time.monotonic()
        code = await _vllm(plan)
        ends = 1 if time.monotonic() - began > _STEADY_SECONDS else ends + 1
        logger.warning("vLLM ended with code %s (%d of %d)", code, ends, ENDS)


async def _vllm(plan: Plan) -> int:
    """Runs vLLM once, in a group of its own, of which nothing is left when it ends."""
    environment = {**os.environ, **plan.environment}
    process = await asyncio.create_subprocess_exec(*plan.command, env=environment, start_new_session=True)
    try:
        return await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
