"""The text of a log: without what looks like a secret, cut to its end, and what that says about a failure. Pure.

Called by `cluster.logs`, which reads logs, and by `status.failures`. The trainer masks its secrets by value; what other
programs print is masked here by pattern.
"""

import re

from unisd_operator.api.status import FailureReason

_TAIL_BYTES = 4096
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

# Of CUDA first: NCCL reports the CUDA error of its own rank as one of its own.
_REASONS: tuple[tuple[FailureReason, re.Pattern[str]], ...] = (
    ("StorageFull", re.compile(r"No space left on device|Disk quota exceeded|\[Errno 28\]")),
    (
        "CudaError",
        re.compile(
            r"CUDA error: |CUDA out of memory|OutOfMemoryError: CUDA|Cuda failure|CUBLAS_STATUS_(?!SUCCESS)\w+"
            r"|CUDNN_STATUS_(?!SUCCESS)\w+|device-side assert|uncorrectable ECC error|No CUDA GPUs are available"
            r"|CUDA driver initialization failed|CUDA driver version is insufficient|CUDA unknown error"
        ),
    ),
    (
        "NcclError",
        re.compile(
            r"NCCL error|NCCL WARN|nccl(?:System|Internal|Remote|UnhandledCuda)Error|DistBackendError"
            r"|Watchdog caught collective operation timeout|Gloo connect\w* failed|gloo/transport"
            r"|Rendezvous(?:Connection|Timeout)Error|TCPStore|DistNetworkError|DistStoreError"
        ),
    ),
)
_ERROR = re.compile(r"\b\w*(?:Error|Exception): \S")


def masked(text: str) -> str:
    """The text without tokens, keys and passwords."""
    for pattern in _SECRETS:
        text = pattern.sub(_MASK, text)
    text = _NAMED.sub(rf"\1{_MASK}", text)
    return _IN_URL.sub(rf"\1{_MASK}\2", text)


def tail(text: str, size: int = _TAIL_BYTES) -> str:
    """The last `size` bytes of a text, from the start of a line where one begins there."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    cut = raw[-size:].decode(errors="ignore")
    _, newline, rest = cut.partition("\n")
    return rest if newline and rest else cut


def end_of(text: str, size: int = _TAIL_BYTES) -> str:
    """The last `size` bytes of a log; the error that they point to comes first where it stands above them."""
    end, cause = tail(text, size), _cause_above(text)
    if cause is None or cause in end:
        return end
    first = cause.encode()[: size // 2].decode(errors="ignore")
    return f"{first}\n{tail(text, size - len(first.encode()) - 1)}"


def reason_in(log: str) -> FailureReason | None:
    """The reason that a log's end names; None if it names none."""
    return next((reason for reason, pattern in _REASONS if pattern.search(log)), None)


def line_in(log: str, length: int = 500) -> str:
    """The line by which `reason_in` knows the reason; empty if it knows none."""
    found = next((match for _, pattern in _REASONS if (match := pattern.search(log))), None)
    if found is None:
        return ""
    return log[log.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0].strip()[:length]


def last_lines(log: str, lines: int = 5, length: int = 1000) -> str:
    """The last lines with words in them, on one line; or, where they point to a cause above them, that."""
    cause = _cause_above(log)
    if cause is not None:
        return cause[:length]
    found = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(found[-lines:])[-length:]


def _cause_above(log: str) -> str | None:
    """The error that a log's end points to: vLLM's server ends with a long traceback that names none."""
    above = log.rpartition("See root cause above")[0].rpartition("\n")[0]
    return next((line.strip() for line in reversed(above.splitlines()) if _ERROR.search(line)), None)
