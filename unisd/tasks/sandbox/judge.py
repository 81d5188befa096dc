"""The judge: isolates itself, forks the worker that runs the program, and evaluates the tests itself.

Run as a script with an interpreter that sees the standard library only. Tests run here with clean builtins; what they
call of the program runs in the worker and comes back as plain data. So nothing that the program prints, patches,
returns or does to its own process can fake a pass: it would have to return the right values.
"""

import builtins
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import isolation
import wire
import worker


class Remote:
    """Something of the program that is no plain data; equal to nothing but itself."""

    def __init__(self, link, number):
        self._link, self._number = link, number

    def __call__(self, *args, **kwargs):
        return self._link.ask("call", self._number, [list(args), kwargs])

    def __iter__(self):
        return iter(self._link.ask("list", self._number, None))

    def __len__(self):
        return self._link.ask("len", self._number, None)

    def __getitem__(self, key):
        return self._link.ask("item", self._number, key)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("attribute", self._number, name)

    def __bool__(self):
        return self._link.ask("truth", self._number, None) is True


class Link:
    """The judge's end of the two pipes to the worker."""

    def __init__(self, reading, writing):
        self._reading, self._writing = reading, writing

    def ask(self, verb, number, payload):
        """One question to the worker; raises what the program raised, by a builtin exception of the same name."""
        wire.send(self._writing, [verb, number, wire.encode(payload, self._number_of)])
        return self.answer()

    def answer(self):
        told = wire.receive(self._reading)
        if told is None:
            raise WorkerGone("the program ended its process")
        status, value = told
        if status == "raised":
            name, message = value
            kind = getattr(builtins, name, None)
            raised = kind if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError
            raise raised(message)
        return wire.decode(value, lambda number: Remote(self, number))

    @staticmethod
    def _number_of(value):
        if isinstance(value, Remote):
            return value._number
        raise TypeError(f"a test passes a {type(value).__name__} to the program, which only plain data can be")


class WorkerGone(BaseException):
    """The worker ended; no test can catch this by mistake."""


def judge(program, link):
    """Outcome and message of a program whose worker is at the other end of `link`."""
    try:
        names = link.answer()
    except WorkerGone:
        return "crashed", "the program ended its process while it was loaded"
    except Exception as error:  # noqa: BLE001 - whatever the program raised is its verdict
        return "error", f"{type(error).__name__}: {error}"[:500]
    scope = {"__name__": "tests"}
    exec(program["setup"], scope)
    taken = set(dir(builtins)) | set(scope)
    for name, value in names.items():
        if name not in taken or name in program["entry"]:
            scope[name] = value
    for test in program["tests"]:
        try:
            exec(compile(test, "test", "exec"), scope)
        except WorkerGone as error:
            return "crashed", str(error)
        except AssertionError:
            return "failed", test[:500]
        except Exception as error:  # noqa: BLE001
            return "error", f"{test[:200]}: {type(error).__name__}: {error}"[:500]
    return "passed", ""


def main():
    """Reads the request from standard input, writes the verdict to the descriptor given."""
    verdict, scratch = int(sys.argv[1]), sys.argv[2]
    request = json.loads(sys.stdin.buffer.read())
    layers = isolation.enter(scratch, request["uid"], request["limits"])
    to_worker, from_judge = os.pipe()[::-1]
    from_worker, to_judge = os.pipe()
    if os.fork() == 0:
        for descriptor in (verdict, to_worker, from_worker):
            os.close(descriptor)
        isolation.confine(request["limits"])
        worker.serve(request["program"], from_judge, to_judge)
        os._exit(0)
    os.close(from_judge)
    os.close(to_judge)
    isolation.bound_memory(request["limits"])  # a test may unfold what it is given: list(range(10**12))
    outcome, message = judge(request["program"], Link(from_worker, to_worker))
    os.write(verdict, json.dumps({"outcome": outcome, "message": message, "layers": layers}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
