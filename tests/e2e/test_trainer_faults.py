"""A training that hangs, runs out of space or finds its checkpoints broken: what status tells, and how it goes on."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import (
    component_of,
    fails,
    failure_of,
    manifest,
    send,
    start,
    status_of,
    steps_of,
    suspend,
    taken_over,
    trainers,
    training_folder,
    trains,
)
from unisd.sealed import fault_of
from unisd.training.checkpoint import checkpoints, step_of

CHECKPOINT_EVERY = 5
ENDLESS = {"maxSteps": 100_000, "checkpointEverySteps": CHECKPOINT_EVERY}
WEIGHTS = "adapter_model.safetensors"


@pytest.mark.full
def test_a_process_that_stands_still_is_found_and_the_next_attempt_goes_on(node: NodeCluster, team: str) -> None:
    deadline = 20
    trainer = {"pod": {"terminationGracePeriodSeconds": 5}}
    folder = start(node, team, manifest("hangs", training=ENDLESS, trainer=trainer, progressDeadlineSeconds=deadline))
    trains(folder)
    first, second = trainers(node, team)

    # The one that answers stands still, as with all others of its training: nobody knows how far it is.
    send(node, team, first, signal.SIGSTOP)
    eventually(lambda: silence(node, team, "hangs")["status"] == "True", within=60)
    assert first in silence(node, team, "hangs")["message"]
    stood = max(steps_of(folder, 1))
    send(node, team, first, signal.SIGCONT)
    eventually(lambda: silence(node, team, "hangs")["status"] == "False", within=60)
    reached = trains(folder, beyond=stood)
    assert "failure" not in component_of(status_of(node, team, "hangs"))

    # Another one stands still: all wait for it, and the one that answers says so.
    send(node, team, second, signal.SIGSTOP)
    failure = failure_of(node, team, "hangs")
    assert (failure["attempt"], failure["reason"]) == (1, "NoProgress")
    assert f"has not ended within spec.progressDeadlineSeconds of {deadline}" in failure["message"]
    trains(folder, attempt=2, beyond=reached)
    assert taken_over(folder, 2) > reached - CHECKPOINT_EVERY
    assert component_of(status_of(node, team, "hangs"))["failedAttempts"] == 1


def silence(node: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    """The condition that tells whether the trainer answers."""
    found: list[dict[str, Any]] = status_of(node, namespace, name)["conditions"]
    return next(condition for condition in found if condition["type"] == "ProgressUnavailable")


@pytest.mark.full
def test_a_full_volume_leaves_no_broken_checkpoint_and_training_goes_on_in_freed_space(
    node: NodeCluster, team: str
) -> None:
    seldom = {**ENDLESS, "checkpointEverySteps": 40}
    folder = start(node, team, manifest("full", training=seldom, trainer={"numNodes": 1}), mib=32)
    trains(folder, beyond=40)
    attempt = training_folder(folder)
    (whole,) = checkpoints(attempt)
    ballast = fill(folder, room=size_of(whole) // 2)

    failure = failure_of(node, team, "full")
    assert (failure["attempt"], failure["reason"], failure["exitCode"]) == (1, "StorageFull", 69), failure
    assert f"no room for checkpoint-{2 * step_of(whole)}" in failure["message"]
    assert [path.name for path in attempt.glob("*checkpoint-*")] == [whole.name]
    assert fault_of(whole) is None

    ballast.unlink()
    trains(folder, attempt=2, beyond=2 * step_of(whole))
    assert taken_over(folder, 2) == step_of(whole)
    assert component_of(status_of(node, team, "full"))["failedAttempts"] == 1


def size_of(directory: Path) -> int:
    """Bytes of the files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*"))


def fill(folder: Path, room: int) -> Path:
    """Fills a volume but for so many bytes; the file that does."""
    space = os.statvfs(folder)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - room)
    return ballast


@pytest.mark.full
def test_a_broken_checkpoint_is_passed_over_and_none_that_is_whole_ends_the_component(
    node: NodeCluster, team: str
) -> None:
    folder = start(node, team, manifest("broken", training=ENDLESS, trainer={"numNodes": 1}))
    trains(folder, beyond=6)
    suspend(node, team, "broken", True)
    attempt = training_folder(folder)
    newest = checkpoints(attempt)[-1]
    spoil(newest / WEIGHTS)

    suspend(node, team, "broken", False)
    eventually(lambda: f"{newest.name} is corrupt ({WEIGHTS} differs" in log(node, team), within=240)
    trains(folder, beyond=step_of(newest))
    steps = steps_of(folder, 1)
    assert steps == sorted(set(steps)), "steps after the one before were made again"

    suspend(node, team, "broken", True)
    left = checkpoints(attempt)
    for checkpoint in left:
        spoil(checkpoint / WEIGHTS)
    suspend(node, team, "broken", False)
    component = component_of(fails(node, team, "broken"))
    failure = component["failure"]
    assert (component["attempt"], failure["reason"], failure["exitCode"]) == (1, "CheckpointCorrupt", 68), component
    assert all(checkpoint.name in failure["message"] for checkpoint in left)


def spoil(file: Path) -> None:
    """Changes the last byte of a file."""
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def log(node: NodeCluster, namespace: str) -> str:
    """What the training says."""
    return node.kubectl("logs", "-n", namespace, "-l", "unisd.dev/role=train", "--tail=-1")
