"""Images for a real node, built on this machine: a Debian base by debootstrap, the project's by buildah from `images/`.

Used by tests of the node and of the images; needs root and the packages of `make node-tools`. An image is built once for
what goes into it and kept as an archive below the cache of `binaries.py`. Starts nothing.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.cluster.binaries import CACHE as BINARIES
from tests.cluster.node_components import PAUSE

ROOT = Path(__file__).parents[2]
CACHE = BINARIES.parent / "images"
BASE = "unisd.test/base:1"
SUITE = "bookworm"
PYTHON = (3, 11)
"""Of that suite."""
# Of the base: what the images' build stages install, so that they need not.
PACKAGES = ("ca-certificates", "g++", "libnuma1", "ninja-build", "python3", "python3-dev", "python3-venv")
# What the images are made of, beside their own folder.
SOURCES = ("unisd", "operator/unisd_operator", "requirements", "LICENSE", ".dockerignore")
# Archives of one kind that stay, those used last: every change of the project makes new ones, of 700 MB each.
KEPT = 3
# Whom the machine trusts: for the time of a build, so do its steps.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILDAH = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}


def image(name: str, **arguments: str) -> Path:
    """Archive of `images/NAME/Dockerfile` on the base, with its build arguments; it holds `unisd.test/NAME:1`."""
    ground = base()
    inputs = [ground.name, *(f"{key}={value}" for key, value in arguments.items())]
    digest = _digest([ROOT / "images" / name, *(ROOT / source for source in SOURCES)], inputs)
    return _kept(f"{name}-{digest}", lambda target: _build(name, arguments, ground, target))


def base() -> Path:
    """Archive of the base: Debian's smallest system with `PACKAGES`."""
    return _kept(f"base-{_digest([], [SUITE, *PACKAGES])}", _bootstrap)


def pause() -> Path:
    """Archive of the image that holds a pod's network: the base, asleep."""
    ground = base()
    return _kept(f"pause-{ground.stem.rpartition('-')[2]}", lambda target: _put_to_sleep(ground, target))


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The archive of this name, made if it is not there; callers at the same time wait for one."""
    path = CACHE / f"{name}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_suffix(f".{os.getpid()}")
            make(unfinished)
            unfinished.rename(path)
            _forget(name.rpartition("-")[0])
        path.touch()
    return path


def _forget(kind: str) -> None:
    """Removes old archives of a kind."""
    with contextlib.suppress(FileNotFoundError):  # another one does the same
        by_use = sorted(CACHE.glob(f"{kind}-*.tar"), key=lambda archive: archive.stat().st_mtime)
        for old in by_use[:-KEPT]:
            old.unlink()


def _bootstrap(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="unisd-base-") as folder, _Store() as store:
        root = Path(folder) / "root"
        _run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root))
        for rest in ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / rest)
            (root / rest).mkdir()
        container = store.buildah("from", "scratch").strip()
        store.buildah("add", "--quiet", container, str(root), "/")
        store.save(container, BASE, target)


def _put_to_sleep(ground: Path, target: Path) -> None:
    with _Store() as store:
        container = store.buildah("from", f"docker-archive:{ground}").strip()
        store.buildah("config", "--entrypoint", '["/bin/sleep", "infinity"]', container)
        store.save(container, PAUSE, target)


def _build(name: str, arguments: Mapping[str, str], ground: Path, target: Path) -> None:
    given = {"BASE_IMAGE": BASE, "BUILD_IMAGE": BASE, **arguments}
    with _Store() as store, tempfile.NamedTemporaryFile("w", suffix=".conf") as pip:
        pip.write(f"[global]\ncert = {AUTHORITIES}\n")
        pip.flush()
        store.buildah("pull", "--quiet", f"docker-archive:{ground}")
        store.buildah(
            *("build", "--quiet", "--layers=false", "--pull=never", "--network=host"),
            *("--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro", "--volume", f"{pip.name}:/etc/pip.conf:ro"),
            *(f"--build-arg={key}={value}" for key, value in given.items()),
            *("--file", str(ROOT / "images" / name / "Dockerfile"), "--tag", f"unisd.test/{name}:1", str(ROOT)),
        )
        store.buildah("push", "--quiet", f"unisd.test/{name}:1", f"docker-archive:{target}")


class _Store:
    """Buildah with a store of its own, which goes when the image is saved."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="unisd-buildah-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def buildah(self, *arguments: str) -> str:
        """Runs buildah; raises `RuntimeError` with its words."""
        where = ("--root", f"{self._folder.name}/root", "--runroot", f"{self._folder.name}/run")
        return _run("buildah", *where, *arguments)

    def save(self, container: str, name: str, target: Path) -> None:
        """The container as an image of this name, in an archive."""
        self.buildah("commit", "--quiet", container, name)
        self.buildah("push", "--quiet", name, f"docker-archive:{target}:{name}")


def _run(*command: str) -> str:
    ended = subprocess.run(command, env={**os.environ, **BUILDAH}, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{(ended.stdout + ended.stderr)[-4000:]}")
    return ended.stdout


def _digest(paths: Sequence[Path], words: Sequence[str]) -> str:
    """Changes with the words and with any file below the paths."""
    digest = hashlib.sha256("\0".join(words).encode())
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
