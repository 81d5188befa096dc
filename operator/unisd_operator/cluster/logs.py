"""The end of a failed container's log, without what looks like a secret. Called by `reconcile`, before any child goes.

The trainer masks its secrets by value; what other programs print is masked here by pattern.
"""

import asyncio
import re

from unisd_operator.cluster.client import Client, ClusterError
from unisd_operator.observed import ContainerState, PodState
from unisd_operator.status.logs import cause_above

TAIL_BYTES = 4096
# Seconds that a log may take: the turn waits for it.
_PATIENCE = 8.0
_MASK = "[masked]"
_SECRETS = (
    re.compile(r"\b(hf_|sk-|gh[pousr]_|github_pat_|glpat-|wandb_v1_|xox[abprs]-)[A-Za-z0-9_\-]{8,}"),
    re.compile(r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),  # JSON web tokens
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)
_NAMED = re.compile(
    r"""(?ix)  # NAME=value, "name": "value", Authorization: Bearer value, --name value
    (\b[\w\-]*(?:token|secret|passw(?:or)?d|api[_\-]?key|access[_\-]?key|authorization|credential)s?["']?
     \s*[=:\s]\s*["']?(?:bearer\s+|basic\s+)?)
    ([^\s"',;}\]]{8,})"""
)
_IN_URL = re.compile(r"(://[^\s/:@]+:)[^\s/@]+(@)")


def masked(text: str) -> str:
    """The text without tokens, keys and passwords."""
    for pattern in _SECRETS:
        text = pattern.sub(_MASK, text)
    text = _NAMED.sub(rf"\1{_MASK}", text)
    return _IN_URL.sub(rf"\1{_MASK}\2", text)


def tail(text: str, size: int = TAIL_BYTES) -> str:
    """The last `size` bytes of a text, from the start of a line where one begins there."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    cut = raw[-size:].decode(errors="ignore")
    _, newline, rest = cut.partition("\n")
    return rest if newline and rest else cut


def end_of(text: str, size: int = TAIL_BYTES) -> str:
    """The last `size` bytes of a log; the error that they point to comes first where it stands above them."""
    end, cause = tail(text, size), cause_above(text)
    if cause is None or cause in end:
        return end
    first = cause.encode()[: size // 2].decode(errors="ignore")
    return f"{first}\n{tail(text, size - len(first.encode()) - 1)}"


def wants_log(pod: PodState, container: ContainerState) -> bool:
    """Whether a container has failed, so that its log is to be kept."""
    return container.exit_code not in (None, 0) and (not container.running or pod.phase == "Failed")


async def failed_log(client: Client, namespace: str, pod: PodState, container: ContainerState) -> str:
    """The end of a failed container's log, masked; what kept it from being read, if it could not be."""
    previous = bool(container.waiting_reason) and container.restarts > 0
    try:
        async with asyncio.timeout(_PATIENCE):  # the node may be gone
            text = await client.log(namespace, pod.name, container.name, previous)
    except (ClusterError, TimeoutError) as error:
        return f"(the log could not be read: {str(error) or 'no answer in time'})"
    return end_of(masked(text))
