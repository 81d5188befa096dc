"""What the end of a log says about a failure that the exit code does not tell. Pure."""

import re

from unisd_operator.api.status import FailureReason

# Of CUDA first: NCCL reports the CUDA error of its own rank as one of its own.
_PATTERNS: tuple[tuple[FailureReason, re.Pattern[str]], ...] = (
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


def reason_in(log: str) -> FailureReason | None:
    """The reason that a log's end names; None if it names none."""
    return next((reason for reason, pattern in _PATTERNS if pattern.search(log)), None)


def line_in(log: str, length: int = 500) -> str:
    """The line by which `reason_in` knows the reason; empty if it knows none."""
    found = next((match for _, pattern in _PATTERNS if (match := pattern.search(log))), None)
    if found is None:
        return ""
    return log[log.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0].strip()[:length]


def last_lines(log: str, lines: int = 5, length: int = 1000) -> str:
    """The last lines with words in them, on one line; or, where they point to a cause above them, that."""
    cause = cause_above(log)
    if cause is not None:
        return cause[:length]
    found = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(found[-lines:])[-length:]


def cause_above(log: str) -> str | None:
    """The error that a log's end points to: vLLM's server ends with a long traceback that names none."""
    above = log.rpartition("See root cause above")[0].rpartition("\n")[0]
    return next((line.strip() for line in reversed(above.splitlines()) if _ERROR.search(line)), None)
