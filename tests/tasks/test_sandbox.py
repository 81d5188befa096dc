"""Attacks on the sandbox: none of them passes, reaches anything, or keeps anything waiting."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.cluster.waiting import eventually
from tests.tasks.attacks import FORK_BOMB, RIGHT, TESTS, THREADED, TRICKS
from unisd.tasks.grader import Grader
from unisd.tasks.grading import ask
from unisd.tasks.sandbox import Limits, Program, isolation, run_programs
from unisd.tasks.sandbox.groups import groups, join

# A program that ends has time on a machine that stands still for a while, too; one that may not end has little.
PATIENT, LIMITS = Limits(seconds=60.0), Limits(seconds=2.0)


@pytest.fixture(scope="module")
def graders():
    """Addresses of graders, by their limits."""
    with contextlib.ExitStack() as running:
        found = {}
        for limits in (PATIENT, LIMITS):
            server = running.enter_context(Grader(("127.0.0.1", 0), limits=limits))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            running.callback(server.shutdown)
            found[limits] = f"127.0.0.1:{server.server_address[1]}"
        yield found


@pytest.fixture(params=["here", "grader"])
def run(request, graders):
    """Has one program judged: in this process, and by a grader."""

    def judged(source, tests=TESTS, limits=PATIENT, **program):
        wanted = Program(source, tuple(tests), **program)
        return ask(graders[limits], wanted) if request.param == "grader" else run_programs([wanted], limits)[0]

    return judged


def test_right_and_wrong_programs(run):
    assert run(RIGHT).outcome == "passed"
    assert run("def f(x):\n    return x\n").outcome == "failed"
    assert run("def f(x):\n    return x +\n").outcome == "error"
    assert run("def g(x):\n    return x\n").outcome == "error"


@pytest.mark.parametrize("source", TRICKS)
def test_no_trick_passes(run, source):
    assert run(source, limits=LIMITS).outcome != "passed"


def test_an_endless_program_is_killed(run):
    started = time.monotonic()
    assert run("while True: pass", limits=LIMITS).outcome == "timeout"
    assert time.monotonic() - started < 30 * LIMITS.seconds


def test_a_fork_bomb_leaves_nothing_running(run):
    before = len(os.listdir("/proc"))
    assert run(FORK_BOMB, limits=LIMITS).outcome == "timeout"
    eventually(lambda: len(os.listdir("/proc")) < before + 10)


def test_what_a_test_unfolds_does_not_take_the_machines_memory(run):
    verdict = run("def f(x):\n    return range(10**12)", ["assert list(f(1)) == [2]"])
    assert verdict.outcome == "error"
    assert "MemoryError" in verdict.message


def test_many_processes_have_one_memory_limit():
    if not any("memory" in layer for layer in isolation()):
        pytest.skip("no control group of memory may be made here")
    source = (
        "import os, time\nreading, writing = os.pipe()\nos.set_blocking(reading, False)\n"
        "for _ in range(10):\n    if os.fork() == 0:\n        held = bytearray(b'x') * (300 << 20)\n"
        "        os.write(writing, b'1')\n        time.sleep(9)\n"
        "time.sleep(1)\ndef f(x):\n    raise ValueError(len(os.read(reading, 99)))"
    )
    (verdict,) = run_programs([Program(source, TESTS)], PATIENT)
    assert verdict.outcome in ("error", "crashed")
    held = re.search(r"ValueError: (\d+)", verdict.message)
    assert held is None or int(held[1]) * 300 <= 2 * PATIENT.memory_mib


def test_control_groups_leave_nothing_behind(tmp_path):
    with groups(tmp_path.parent.name + tmp_path.name, {"pids": 9, "memory": 1 << 28}) as made:
        for group in made:
            sleeper = subprocess.Popen(["sleep", "60"])
            assert join(group, sleeper.pid)
            sleeper.kill()
            sleeper.wait()
    assert not any(group.exists() for group in made)
    with groups("x", {"pids": 9}, root=tmp_path) as made:
        assert not any(made.values()), "none may be made where none are mounted"


def test_endless_output_fills_nothing(run):
    assert run("import sys\nwhile True: sys.stdout.write('x' * 10**6)", limits=LIMITS).outcome == "timeout"


def test_large_files_are_refused(run):
    source = "def f(x):\n    open('/tmp/big', 'wb').write(b'x' * (1 << 26))\n    return x + 1"
    assert run(source).outcome in ("error", "crashed")


def test_secrets_of_the_runner_are_out_of_reach(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    secret.chmod(0o644)
    for path in (secret, Path.home() / ".bashrc", Path("/proc/1/environ")):
        source = f"def f(x):\n    return open({str(path)!r}).read() and x + 1"
        assert run(source).outcome == "error"
    link = f"import os\ndef f(x):\n    os.symlink({str(secret)!r}, '/tmp/link')\n    return open('/tmp/link').read() and x + 1"
    assert run(link).outcome == "error"


def test_nothing_outside_can_be_written(run, tmp_path):
    tmp_path.chmod(0o777)
    target = tmp_path / "written"
    run(f"open({str(target)!r}, 'w').write('x')\n" + RIGHT)
    assert not target.exists()


def test_the_network_is_out_of_reach(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        source = f"import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', {port}))\n    return x + 1"
        assert run(source).outcome == "error"
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_judge_cannot_be_killed_into_a_pass(run):
    source = "import os\ndef f(x):\n    for pid in (1, os.getppid(), -1):\n        try: os.kill(pid, 9)\n        except OSError: pass\n    return 0"
    assert run(source, limits=LIMITS).outcome != "passed"


def test_one_program_does_not_reach_the_next():
    spoiler = "import builtins, os\nbuiltins.sum = lambda x: 0\nopen('/tmp/left', 'w').write('x')\n" + RIGHT
    looks = "import os\ndef f(x):\n    return x + 1 if sum([1, 1]) == 2 and not os.path.exists('/tmp/left') else 0"
    assert [v.outcome for v in run_programs([Program(spoiler, TESTS), Program(looks, TESTS)], PATIENT, 1)] == [
        "passed"
    ] * 2


def test_what_honest_programs_do_works(run):
    source = "from collections import Counter, namedtuple\nP = namedtuple('P', 'a b')\n"
    source += (
        "def f(x):\n    return Counter(x)\ndef g(p):\n    return p.a\ndef h(n):\n    return (i for i in range(n))\n"
    )
    source += "class Box:\n    def __init__(self, v): self.v = v\ndef k(b):\n    return b.v\ndef e():\n    raise ValueError('no')"
    tests = [
        "assert f('aab') == {'a': 2, 'b': 1}",
        "assert g(P(3, 4)) == 3",
        "assert list(h(3)) == [0, 1, 2]",
        "assert k(Box([1, (2, 3.5), {'x': None}])) == [1, (2, 3.5), {'x': None}]",
        "try:\n    e()\n    assert False\nexcept ValueError:\n    pass",
        "import math\nassert math.isclose(k(Box(0.1)), 0.1)",
    ]
    assert run(source, tests).outcome == "passed"


def test_names_of_builtins_come_from_the_program_only_if_the_reference_has_them(run):
    source, tests = "def sum(a, b):\n    return a * b", ["assert sum(2, 3) == 6"]
    assert run(source, tests).outcome == "error"
    assert run(source, tests, entry=("sum",)).outcome == "passed"


def test_it_says_which_layers_are_in_force():
    layers = isolation()
    assert "seccomp" in layers
    assert any("namespaces" in layer or layer == "Landlock" for layer in layers)


def as_somebody(*before, secret):
    """Outcomes and layers of some programs, judged by a grader of a user that owns nothing."""
    reads = f"def f(x):\n    return open({str(secret)!r}).read() and x + 1"
    kills = "import os\nos.kill(os.getppid(), 9)\n" + RIGHT
    programs = [Program(source, TESTS) for source in (RIGHT, THREADED, "import os; os._exit(0)", reads, kills)]
    script = (
        "import threading\nfrom unisd.tasks.grader import Grader\nfrom unisd.tasks.grading import ask\n"
        "from unisd.tasks.sandbox import *\nserver = Grader(('127.0.0.1', 0))\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "service = f'127.0.0.1:{server.server_address[1]}'\n"
        f"print([ask(service, program).outcome for program in {programs!r}], isolation())"
    )
    system = "/usr/bin/python3"  # one that anybody may run
    command = [*before, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", system, "-B", "-c", script]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def secret():
    """A file that anybody may read, but no program."""
    path = Path(tempfile.mkdtemp()) / "secret"
    path.parent.chmod(0o755)
    path.write_text("the secret")
    yield path
    shutil.rmtree(path.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_as_an_ordinary_user(secret):
    assert as_somebody(secret=secret).startswith("['passed', 'passed', 'crashed', 'error', 'error']")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the root")
def test_where_namespaces_are_refused(secret, tmp_path):
    """The kernel gives none to ordinary users inside a changed root: Landlock and seccomp hold alone."""
    root = tmp_path / "root"
    root.mkdir()
    inside = f'mount --rbind / {root} && exec chroot {root} "$@"'
    # As of a node's pods, which all have one user: what others of them run is no part of a program's own processes.
    others = [subprocess.Popen(["setpriv", "--reuid=65534", "--clear-groups", "sleep", "60"]) for _ in range(20)]
    told = as_somebody("unshare", "--mount", "sh", "-c", inside, "sh", secret=secret)
    for other in others:
        other.kill()
        other.wait()
    assert told.startswith("['passed', 'passed', 'crashed', 'error', 'error'] ['Landlock'")
