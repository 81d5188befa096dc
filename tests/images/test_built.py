"""The images as buildah builds them on a Debian base: what is in them, and how they would run."""

import pytest

from tests.cluster import images
from tests.images.dockerfile import Image, read_archive

pytestmark = pytest.mark.node
PACKAGES = "/opt/site-packages"


def built(name: str, **arguments: str) -> Image:
    return read_archive(images.image(name, **arguments))


def packages_in(image: Image) -> set[str]:
    """Top-level names below any site-packages folder."""
    return {file.partition("site-packages/")[2].split("/")[0] for file in image.files if "site-packages/" in file}


def test_the_operators_image_holds_no_torch() -> None:
    image = built("operator")
    found = packages_in(image)
    assert {"kopf", "kubernetes", "pydantic"} <= found
    assert not found & {"torch", "nvidia", "triton", "transformers", "vllm", "numpy", "pip"}
    assert image.config["Entrypoint"] == ["python", "-m", "unisd_operator"]
    assert not any("gcc" in file.rpartition("/")[2] for file in image.files if file.startswith("/opt"))


@pytest.mark.parametrize(("name", "command"), [("trainer", "unisd"), ("rollout", "vllm")])
def test_images_of_runs_hold_the_pods_commands_and_a_compiler(name: str, command: str) -> None:
    image = built(name, PACKAGES="mounted")
    assert f"/opt/unisd/bin/{command}" in image.files
    assert "/opt/unisd/bin/unisd" in image.files
    assert "/usr/bin/g++" in image.files
    assert any(file.endswith("/Python.h") for file in image.files)
    assert not image.config.get("Entrypoint")
    assert PACKAGES in {file.rstrip("/") for file in image.files}
    assert "torch" not in packages_in(image)


@pytest.mark.parametrize("name", ["operator", "trainer", "rollout"])
def test_images_run_as_nobody_and_hold_nothing_of_whoever_built_them(name: str) -> None:
    image = built(name, **({} if name == "operator" else {"PACKAGES": "mounted"}))
    assert image.config["User"] == "65532:65532"
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert any(word.startswith("PATH=/opt/unisd/bin:") for word in image.config["Env"])
    own = {file for file in image.files if file.startswith("/opt/unisd/src/")}
    assert "/opt/unisd/src/unisd/cli/__init__.py" in own
    assert not any("/tests/" in file or file.endswith((".jsonl", ".gguf")) for file in own)
    assert not any(file.startswith(("/root/.cache", "/root/.config", "/tmp/")) for file in image.files)
