"""Why a stage can fail, in words that status, reports and exit codes share.

Exit codes are part of the interface (docs/exit-codes.md); the operator and the local runner read them back.
"""

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

Reason = Literal[
    "BadInput",
    "StorageFull",
    "CheckpointCorrupt",
    "PolicyCollapsed",
    "PolicyDiverged",
    "RolloutCrash",
    "NonFinite",
    "Interrupted",
    "Busy",
    "NonZeroExit",
]

EXIT_CODES: dict[Reason, int] = {
    "NonZeroExit": 1,
    "BadInput": 65,
    "PolicyCollapsed": 66,
    "NonFinite": 67,
    "CheckpointCorrupt": 68,
    "StorageFull": 69,
    "Busy": 70,
    "PolicyDiverged": 71,
    "RolloutCrash": 72,
    "Interrupted": 75,
}


class StageError(Exception):
    """A stage cannot go on, for a reason that a user can act on; the message says how."""

    def __init__(self, reason: Reason, message: str, exit_code: int | None = None) -> None:
        self.reason: Reason = reason
        self.exit_code = EXIT_CODES[reason] if exit_code is None else exit_code
        """The process's exit status: the reason's, or that of a process that was killed."""
        super().__init__(message)


def reason_of(exit_code: int) -> Reason:
    """The reason that an exit status stands for; unknown ones are NonZeroExit."""
    return next((reason for reason, code in EXIT_CODES.items() if code == exit_code), "NonZeroExit")


_SCARCE_BYTES = 1 << 16


def is_disk_full(error: BaseException | None, directory: Path) -> bool:
    """Whether an error means a full disk: by itself or its causes, or by a look at it: torch.save does not say."""
    with suppress(OSError):  # a directory that could not be made tells nothing
        if shutil.disk_usage(directory).free < _SCARCE_BYTES:
            return True
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
