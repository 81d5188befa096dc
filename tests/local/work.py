"""Stand-ins for the work of stages, imported by the forked children of the runner's tests."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from unisd.files import write_json
from unisd.local.child import Assignment, stand_alone
from unisd.rundir import RunDir


def record(assignment: Assignment) -> None:
    """Writes down that the stage ran; behaves as a file beside the run says."""
    stand_alone()
    root = assignment.root
    name = assignment.stage.name
    behaviour = root.parent / "behave" / name.replace("/", "-")
    wish = behaviour.read_text() if behaviour.is_file() else ""
    with (root.parent / "events").open("a") as file:
        file.write(f"start {name} {assignment.device}\n")
    print(f"log of {name}", file=sys.stderr)
    if wish == "fail":
        write_json(RunDir(root).stage(name) / "failure.json", {"reason": "BadInput", "message": "as wished"})
        (RunDir(root).stage(name) / "log.txt").write_text("line one\nthe last line\n")
        os._exit(65)
    if wish == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "fill":
        with (root / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
    if wish.startswith("beside"):
        _wait_for_start(root.parent / "events", wish.split()[1])
    if wish.startswith("sleep"):
        Path(root.parent / "asleep").write_text(str(os.getpid()))
        time.sleep(float(wish.split()[1]))
    with (root.parent / "events").open("a") as file:
        file.write(f"end {name} {assignment.device}\n")
    os._exit(0)


def _wait_for_start(events: Path, stage: str) -> None:
    """Until another stage has begun, or for so long that it will not while this one runs."""
    for _ in range(600):
        if f"start {stage} " in events.read_text():
            return
        time.sleep(0.05)


def main() -> None:
    """Runs the runner as a command, so that signals can be sent to it."""
    from unisd.config.load import load_run
    from unisd.failures import StageError
    from unisd.local.runner import Options, Runner, succeeded
    from unisd.stages import stages

    run = load_run(Path(sys.argv[1]))
    parallelism, devices, per_device = map(int, sys.argv[3:])
    options = Options(devices, parallelism, per_device, work=record, preload=())
    try:
        runner = Runner(run, RunDir(Path(sys.argv[2])), stages(run, {}), options, lambda _states: None)
        states = runner.to_end()
    except StageError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(130 if runner.interrupted else 0 if succeeded(run, states) else 1)


if __name__ == "__main__":
    main()
