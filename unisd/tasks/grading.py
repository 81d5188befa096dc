"""The one way to have generated programs judged: by the sandbox in this process, or by a grader that keeps them away.

In a cluster `UNISD_GRADER_SERVICE` says where the grader is; called by tasks whose answers are programs.
"""

import json
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException

from unisd.failures import StageError
from unisd.tasks.grader import MAX_BODY_BYTES
from unisd.tasks.sandbox import Program, Verdict, run_programs

_AT_ONCE = 8
_TIMEOUT_SECONDS = 60.0
_PATIENCE_SECONDS = 300.0
_LONGEST_PAUSE = 8.0


def verdicts(programs: Sequence[Program]) -> list[Verdict]:
    """Verdicts of all programs, in order.

    Raises:
        StageError: if there is a grader and it does not answer.
    """
    service = os.environ.get("UNISD_GRADER_SERVICE")
    if not service:
        return run_programs(programs)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda program: ask(service, program), programs))


def ask(service: str, program: Program, patience: float = _PATIENCE_SECONDS) -> Verdict:
    """A grader's verdict on one program. A grader that is busy or starting is asked again, with pauses.

    Args:
        service: `host:port`.
        program: what to judge.
        patience: seconds after which an answer is not waited for any more.
    """
    body, deadline, pause = json.dumps(asdict(program)).encode(), time.monotonic() + patience, 0.25
    if len(body) > MAX_BODY_BYTES:
        return Verdict("error", "the program is too large to be judged")
    while True:
        try:
            status, text = _post(service, body)
        except (OSError, HTTPException) as error:
            said = f"{type(error).__name__}: {error}"
        else:
            if status == 200:
                told = json.loads(text)
                return Verdict(told["outcome"], told["message"])
            said = f"status {status}: {text.decode(errors='replace')[:200]}"
        if time.monotonic() + pause > deadline:
            raise StageError("NonZeroExit", f"the grader at {service} gave no verdict for {patience:.0f} s ({said})")
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _post(service: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer. Not by way of a proxy: the grader stands beside the run."""
    connection = HTTPConnection(service, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("POST", "/grade", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
