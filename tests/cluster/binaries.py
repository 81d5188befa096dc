"""The programs of the test cluster: built once from the Go modules in `tools/`, kept by the content of their module.

`binary` is called by the cluster and by tests; `python -m tests.cluster.binaries` (`make cluster-tools`) builds those
of a control plane and its tests, with names those named.
Starts nothing.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
KUBERNETES = "1.34.4"
# Read once: tests of the runner give UNISD_CACHE another value while they run.
CACHE = Path(os.environ.get("UNISD_CACHE") or Path.home() / ".cache" / "unisd") / "bin"


@dataclass(frozen=True)
class Program:
    """A main package of a module in `tools/`."""

    module: str
    package: str
    tags: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Go variables set by the linker, where a release would have its version."""


MAJOR, MINOR, _ = KUBERNETES.split(".")
COMPONENT = {
    "k8s.io/component-base/version.gitVersion": f"v{KUBERNETES}",
    "k8s.io/component-base/version.gitMajor": MAJOR,
    "k8s.io/component-base/version.gitMinor": MINOR,
}
# The Kubernetes that `helm template` and `helm lint` assume, where there is no cluster to ask.
HELM = {
    f"helm.sh/helm/v3/pkg/{package}.k8sVersion{part}": value
    for package in ("chartutil", "lint/rules")
    for part, value in (("Major", MAJOR), ("Minor", MINOR))
}

# In the order that builds them fastest: each finds packages that those before it have compiled.
PROGRAMS = {
    "etcd": Program("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", variables=COMPONENT),
    "kube-controller-manager": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", variables=COMPONENT
    ),
    "kube-scheduler": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", variables=COMPONENT),
    "kubectl": Program("kubernetes", "k8s.io/kubernetes/cmd/kubectl", variables=COMPONENT),
    "kubelet": Program("kubernetes", "k8s.io/kubernetes/cmd/kubelet", variables=COMPONENT),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", variables=COMPONENT),
    "coredns": Program("coredns", "."),
    "kube-network-policies": Program("netpol", "sigs.k8s.io/kube-network-policies/cmd"),
    "k8scheck": Program("checks", "."),
    "kueue": Program("kueue", "sigs.k8s.io/kueue/cmd/kueue"),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "helm": Program("helm", "helm.sh/helm/v3/cmd/helm", variables=HELM),
    # Without the clouds' service discovery, half of what there is to compile.
    "promtool": Program("prometheus", "github.com/prometheus/prometheus/cmd/promtool", tags="remove_all_sd"),
    "prometheus": Program("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", tags="remove_all_sd"),
}
OF_NODE = ("kubelet", "kube-proxy", "coredns", "kube-network-policies")


def binary(name: str) -> Path:
    """Path of a program of `PROGRAMS`, built if it is not there; callers at the same time wait for one build.

    Raises `RuntimeError` if Go is missing or the build fails, with Go's own words.
    """
    program = PROGRAMS[name]
    path = CACHE / f"{program.module}-{_digest(program)}" / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _build(program, path)
    return path


def module_folder(module: str, path: str) -> Path:
    """Where the sources of the required module `path` lie: manifests that belong to a program are taken from there."""
    answer = _go("mod", "download", "-json", path, cwd=TOOLS / module)
    return Path(json.loads(answer)["Dir"])


def _digest(program: Program) -> str:
    """Changes with anything that the program is built from: versions, checksums, sources, flags."""
    digest = hashlib.sha256(" ".join(_flags(program)).encode())
    for file in sorted((TOOLS / program.module).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _flags(program: Program) -> list[str]:
    variables = [f"-X {name}={value}" for name, value in program.variables.items()]
    tags = ["-tags", program.tags] if program.tags else []
    return ["-trimpath", "-buildvcs=false", *tags, "-ldflags", " ".join(["-s", "-w", *variables])]


def _build(program: Program, path: Path) -> None:
    """Builds beside the target and renames: a caller that was killed leaves no half program, whatever its build does."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    _go("build", *_flags(program), "-o", str(unfinished), program.package, cwd=TOOLS / program.module)
    unfinished.rename(path)


def _go(*arguments: str, cwd: Path) -> str:
    if shutil.which("go") is None:
        raise RuntimeError("the test cluster is built from source: install Go 1.26 or newer")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    ended = subprocess.run(["go", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"go {' '.join(arguments)} failed in {cwd}:\n{ended.stderr[-4000:]}")
    return ended.stdout


def main(names: list[str]) -> None:
    """Builds the programs named, or all of a cluster without a real node, and prints their paths."""
    for name in names or [program for program in PROGRAMS if program not in OF_NODE]:
        begin = time.monotonic()
        path = binary(name)
        print(f"{time.monotonic() - begin:6.1f} s  {path}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
