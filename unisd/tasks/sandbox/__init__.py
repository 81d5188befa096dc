"""Generated programs are run here and nowhere else. See docs/sandbox.md for what is isolated and what is not."""

from unisd.tasks.sandbox.pool import Limits, Program, Verdict, isolation, run_programs

__all__ = ["Limits", "Program", "Verdict", "isolation", "run_programs"]
