"""The documents know every reason, and say of attempts what the code does."""

import re
from pathlib import Path
from typing import get_args

from unisd_operator.api.status import FailureReason, WaitingReason
from unisd_operator.status.attempts import FINAL, UNCOUNTED

DOCS = Path(__file__).parents[3] / "docs" / "operator"


def rows(text: str) -> list[str]:
    """First cells of a table's rows."""
    return re.findall(r"^\| ([A-Za-z]+) \|", text, flags=re.MULTILINE)


def test_every_reason_has_a_row_that_says_what_to_do() -> None:
    _, failures, waiting, _ = re.split(r"^## ", (DOCS / "troubleshooting.md").read_text(), flags=re.MULTILINE)
    assert rows(failures) == ["reason", *get_args(FailureReason)]
    assert rows(waiting) == ["reason", *get_args(WaitingReason)]


def test_which_attempts_count() -> None:
    lines = (DOCS / "status.md").read_text().splitlines()
    final = next(line for line in lines if line.startswith("| never tried again"))
    uncounted = next(line for line in lines if line.startswith("| tried again, not counted"))
    assert {reason for reason in FINAL if reason not in final} == {"FailFast"}
    assert all(reason in uncounted for reason in UNCOUNTED)
