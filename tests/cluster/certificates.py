"""Certificates of a test cluster, by `openssl`: an authority, servers, and users that the API server believes."""

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


ELLIPTIC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("rsa:2048",)


class Authority:
    """An authority of its own per cluster, in `folder`; `algorithm` is that of its keys and of those it signs."""

    def __init__(self, folder: Path, name: str = "test-cluster", algorithm: tuple[str, ...] = ELLIPTIC):
        folder.mkdir()
        self._folder = folder
        self._algorithm = algorithm
        extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", f"subjectAltName=DNS:{name}"]
        self.pair = self._make("ca", f"/CN={name}", extensions)

    @property
    def encoded(self) -> str:
        """Its certificate as kubeconfigs and webhooks carry it."""
        return encoded(self.pair.certificate)

    def server(self, name: str, *names: str) -> KeyPair:
        """For a server under `names`, each `DNS:…` or `IP:…`."""
        return self._signed(name, f"/CN={name}", ["-addext", f"subjectAltName={','.join(names)}"])

    def user(self, name: str, groups: tuple[str, ...] = ()) -> KeyPair:
        """For a user as the API server knows them: the common name, and the organisations as groups."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={name}"
        return self._signed(name.replace(":", "-"), subject, ["-addext", "extendedKeyUsage=clientAuth"])

    def _signed(self, file: str, subject: str, options: list[str]) -> KeyPair:
        issuer = ["-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key)]
        return self._make(file, subject, [*issuer, "-addext", "basicConstraints=CA:FALSE", *options])

    def _make(self, file: str, subject: str, options: list[str]) -> KeyPair:
        pair = KeyPair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        fresh = ["openssl", "req", "-x509", "-newkey", *self._algorithm, "-noenc"]
        target = ["-days", "365", "-subj", subject, "-keyout", str(pair.key), "-out", str(pair.certificate)]
        subprocess.run([*fresh, *target, *options], check=True, capture_output=True)
        return pair


def encoded(file: Path) -> str:
    """A PEM file in base64."""
    return base64.b64encode(file.read_bytes()).decode()
