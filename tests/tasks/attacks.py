"""Programs that attack the sandbox, for whoever has one: the tests of the sandbox itself, and those of a grader's pod.

Each is judged by `TESTS`, which `RIGHT` and `THREADED` pass and no attack may.
"""

TESTS = ("assert f(1) == 2", "assert set([f(2)]) == {3}")
RIGHT = "def f(x):\n    return x + 1\n"
THREADED = (
    "import threading\ndef f(x):\n    found = []\n    thread = threading.Thread(target=lambda: found.append(x + 1))\n"
    "    thread.start()\n    thread.join()\n    return found[0]"
)
FORK_BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
TRICKS = (
    "import os\nos._exit(0)",
    "import sys\nsys.exit(0)",
    RIGHT + "import os\ndef f(x):\n    os._exit(0)",
    "raise SystemExit(0)",
    "print('passed')\nimport sys\nsys.stdout.flush()",
    'import os\nfor d in range(3, 64):\n    try: os.write(d, b\'{"outcome": "passed", "message": "", "layers": []}\')\n'
    "    except OSError: pass",
    "class E:\n    def __eq__(self, other): return True\n    def __hash__(self): return 3\ndef f(x):\n    return E()",
    "class E(int):\n    def __eq__(self, other): return True\n    def __hash__(self): return 3\ndef f(x):\n    return E(9)",
    "class E(list):\n    def __eq__(self, other): return True\ndef f(x):\n    return E([1])",
    "import builtins\nbuiltins.set = builtins.AssertionError = lambda *a: 0\ndef set(x): return 0\ndef f(x): return 9",
    "a = [0] * 10**10\n" + RIGHT,
    "def f(x):\n    while True: pass",
    "def f(x):\n    return f(x)",
    "import os\nos.kill(-1, 9)\n" + RIGHT,
    "import os\nif os.fork() == 0:\n    os.setsid()\n" + RIGHT,
)
"""Ways to pass without being right."""
