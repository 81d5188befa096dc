"""What the images are made of, read from their Dockerfiles and locks: nothing is built."""

import json
import re
import tomllib

import pytest
import yaml

from tests.images.dockerfile import NAMES, ROOT, of, stages

REQUIREMENTS = ROOT / "requirements"
EVERY = pytest.mark.parametrize("name", NAMES)


def locked(name):
    """Versions of a lock by package."""
    text = (REQUIREMENTS / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][-a-z0-9.]*)==(\S+)", text, flags=re.MULTILINE))


@EVERY
def test_an_image_runs_as_a_number_under_any_user(name):
    last = stages(name)[-1]
    (user,) = of(last, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@EVERY
def test_base_images_are_arguments_and_nothing_is_built_in_the_last_stage(name):
    head, *built = stages(name)
    arguments = dict(found.split("=", 1) for found in of(head, "ARG"))
    assert "BASE_IMAGE" in arguments
    assert of(built[-1], "FROM") == ["${BASE_IMAGE}"]
    assert len(built) == 2
    assert all(re.fullmatch(r"\$\{(BASE|BUILD)_IMAGE\}( AS build)?", of(stage, "FROM")[0]) for stage in built)
    assert not any("pip" in run for run in of(built[-1], "RUN"))
    if name != "operator":
        assert all("cuda:12.8." in image for image in arguments.values())


@EVERY
def test_every_package_is_installed_from_a_lock_by_its_hash(name):
    build = stages(name)[1]
    installs = [part for run in of(build, "RUN") for part in re.findall(r"pip install[^;&]*", run)]
    assert installs
    for install in installs:
        assert "--require-hashes" in install
        assert ("--only-binary :all:" in install) != ("--no-build-isolation" in install), install
        assert ("--target" in install) == ("--no-deps" in install), "overridden wishes would be refused"
        (lock,) = re.findall(r"-r /tmp/(\S+)", install)
        assert any(lock in copied for copied in of(build, "COPY"))
        text = (REQUIREMENTS / lock).read_text(encoding="utf-8")
        assert 0 < len(locked(lock)) <= text.count("--hash=sha256:")


@EVERY
def test_layers_keep_no_lists_of_packages(name):
    for stage in stages(name)[1:]:
        for run in of(stage, "RUN"):
            assert ("apt-get" in run) == ("rm -rf /var/lib/apt/lists/*" in run)
            assert run.count("apt-get install") == run.count("--no-install-recommends")


@EVERY
def test_an_image_says_what_it_is(name):
    (labels,) = of(stages(name)[-1], "LABEL")
    for key in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{key}=" in labels
    (version,) = of(stages(name)[-1], "ARG")
    assert (
        version.removeprefix("VERSION=")
        == yaml.safe_load((ROOT / "charts/unisd-operator/Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    )


@pytest.mark.parametrize("name", ["trainer", "rollout"])
def test_pods_say_what_to_run(name):
    last = stages(name)[-1]
    assert of(last, "ENTRYPOINT") == ["[]"], "CUDA's images bring one, which would be inherited"
    (runs,) = of(last, "RUN")
    assert {"g++", "python3-dev"} <= set(runs.split()), "Triton compiles at run time"
    assert "NVIDIA_VISIBLE_DEVICES=void" in " ".join(of(last, "ENV"))


def test_the_operator_starts_itself():
    (entry,) = of(stages("operator")[-1], "ENTRYPOINT")
    assert json.loads(entry)[1:] == ["-m", "unisd_operator"]


@EVERY
def test_what_is_copied_is_in_the_context(name):
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for stage in stages(name)[1:]:
        for copied in of(stage, "COPY"):
            if copied.startswith("--from="):
                continue
            for source in copied.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == place or source.startswith(f"{place}/") for place in allowed), source


def test_the_operator_needs_none_of_what_trains():
    heavy = {"torch", "transformers", "vllm", "deepspeed", "datasets", "numpy"}
    assert not heavy & set(locked("operator.txt"))


def test_locks_fit_cuda_12_8():
    train, rollout = locked("train.txt"), locked("rollout.txt")
    assert train["torch"] == rollout["torch"] == "2.10.0"
    assert train["nvidia-cuda-runtime-cu12"].startswith("12.8.")
    assert rollout["vllm"] == "0.19.1", "later ones bring programs of CUDA 13"
    assert train["transformers"] == rollout["transformers"]


def test_flash_attention_is_locked_as_the_project_asks_for_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["flash"] == [f"flash-attn=={locked('flash.txt')['flash-attn']}"]
