"""Programs that the sandbox grades in a second: trivial ones, ones that fail, and ones that never end.

    python bench/grading.py [--programs 100] [--workers 2]

Prints the layers of isolation in force and a line a kind, with the processor time of a judge (not of the worker that it
forks, which nobody waits for): where others use the machine too, that is the steadier figure.
"""

import argparse
import os
import resource
import time

from unisd.tasks.sandbox import Limits, Program, isolation, run_programs

KINDS = {
    "trivial, passes": (Program("def f(x):\n    return x + 1", ("assert f(1) == 2",)), "passed"),
    "trivial, fails": (Program("def f(x):\n    return x", ("assert f(1) == 2",)), "failed"),
    "fifty tests": (
        Program("def f(x):\n    return x + 1", tuple(f"assert f({x}) == {x + 1}" for x in range(50))),
        "passed",
    ),
    "imports": (
        Program("import re, json, collections, itertools\ndef f(x):\n    return x", ("assert f(1) == 1",)),
        "passed",
    ),
}


def main() -> None:
    """Runs every kind and prints its rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {options.workers} workers; {'; '.join(isolation())}")
    for name, (program, expected) in KINDS.items():
        started, before = time.monotonic(), _processor_seconds()
        verdicts = run_programs([program] * options.programs, workers=options.workers)
        seconds, used = time.monotonic() - started, _processor_seconds() - before
        assert {verdict.outcome for verdict in verdicts} == {expected}, {verdict.outcome for verdict in verdicts}
        each = 1000 * used / options.programs
        print(f"{name:18}{options.programs / seconds:8.1f} programs/s{each:8.1f} ms of processor time a judge")
    endless = [Program("while True:\n    pass", ("assert True",))] * options.workers
    started = time.monotonic()
    run_programs(endless, Limits(seconds=1.0), options.workers)
    print(f"{'never end':18}killed {time.monotonic() - started - 1.0:.2f} s after a limit of 1 s")


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
