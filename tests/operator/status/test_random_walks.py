"""Long random lives of a run: whatever happens to its children, its status never lies, and it comes to an end.

A small stand-in for plan and cluster makes the children that each phase wants, and chance decides what becomes of them.
"""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from unisd_operator.api.status import ENDED, Component, Stage, Status

from tests.operator.status.lab import SCORES, Lab, new

COMPONENTS = [
    {"name": "star", "preset": "unisd_star"},
    {"name": "sft", "preset": "sft"},
    {"name": "raw", "preset": "raw"},
]
HOLDING = {"Queued", "Starting", "Training", "Evaluating"}
BACKOFF_LIMIT = 2
ENDINGS: list[dict[str, Any]] = [
    {"phase": "Failed", "container": {"exit_code": 1}},
    {"phase": "Failed", "container": {"exit_code": 137, "terminated_reason": "OOMKilled"}},
    {"phase": "Failed", "container": {"exit_code": 75}},
    {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
    {"disruption_reason": "PreemptionByScheduler"},
    {"phase": "Pending", "container": {"waiting_reason": "ImagePullBackOff"}},
    {"phase": "Pending", "scheduled": False, "scheduler_message": "0/3 nodes are available"},
]


class World:
    """A cluster of chance around a run."""

    def __init__(self, lab: Lab, chance: random.Random) -> None:
        self.lab, self.chance = lab, chance
        self.trained: set[str] = set()
        self.parallelism = 1
        self.suspended = False

    def keep_up(self) -> None:
        """What plan and the controllers do: children that are wanted exist, others go."""
        status = self.lab.status
        for stage in status.stages:
            if stage.phase in ("Pending", "Suspended"):
                self.lab.remove(None, stage.name, *(("rollout",) if stage.name == "contexts" else ()))
            elif stage.phase not in ENDED and self.lab_has_no("Job", stage.name, None, stage.attempt):
                self.lab.job(stage.name, None, stage.attempt)
        for arm in status.components:
            self.children_of(arm)

    def children_of(self, arm: Component) -> None:
        if arm.phase in ("Pending", "Suspended", "Queued") or arm.phase in ENDED:
            self.lab.remove(arm.name, "train", "rollout", "evaluate", "results")
        self.lab.observed = replace(
            self.lab.observed,
            children=tuple(c for c in self.lab.observed.children if c.arm != arm.name or c.attempt == arm.attempt),
            pods=tuple(p for p in self.lab.observed.pods if p.arm != arm.name or p.attempt == arm.attempt),
        )
        if arm.phase not in HOLDING - {"Queued"}:
            return
        unread = arm.waiting is not None and arm.waiting.reason == "ResultsUnread"
        role = "results" if unread else "evaluate" if arm.phase == "Evaluating" else "train"
        if self.lab_has_no("Job", role, arm.name, arm.attempt):
            self.lab.job(role, arm.name, arm.attempt)
        if role == "evaluate" or arm.component == "star":
            self.lab.deployment(arm.name, arm.attempt)
            if self.lab_has_no("Pod", "rollout", arm.name, arm.attempt):
                self.lab.pod("rollout", arm.name, arm.attempt, gpus=1)

    def lab_has_no(self, kind: str, role: str, arm: str | None, attempt: int) -> bool:
        seen = self.lab.observed.pods if kind == "Pod" else self.lab.observed.children
        return not any(x.role == role and x.arm == arm and x.attempt == attempt for x in seen)

    def happen(self, kind: bool) -> None:
        """One thing happens: to a Job in any phase, to the spec, to the operator."""
        jobs = [c for c in self.lab.observed.children if c.kind == "Job" and not c.succeeded]
        if jobs:
            job = self.chance.choice(jobs)
            roll = 0.9 if kind else self.chance.random()
            if roll < 0.3:
                self.lab.pod(job.role, job.arm, job.attempt, gpus=1, **self.chance.choice(ENDINGS))
            elif self.lab_has_no("Pod", job.role, job.arm, job.attempt) or roll < 0.4:
                self.lab.pod(job.role, job.arm, job.attempt, gpus=1)
            elif roll < 0.5 and job.arm:
                self.lab.answer(job.arm, step=self.chance.randrange(9), totalSteps=9)
            elif roll < 0.55:
                self.lab.remove(job.arm, job.role)
                self.lab.job(job.role, job.arm, job.attempt, failed=True, ended=self.lab.now)
            elif roll < 0.6:
                self.lab.remove(job.arm, job.role)
                self.lab.job(job.role, job.arm, job.attempt, succeeded=True)
                self.remember(job.role, job.arm)
            elif roll > 0.75:
                scores = SCORES if job.role in ("evaluate", "results") else json.dumps({"result": {}})
                self.lab.end(job.role, job.arm, scores, job.attempt)
                self.remember(job.role, job.arm)
        if not kind and self.chance.random() < 0.1:
            self.suspended = not self.suspended
            self.lab.edit(suspend=self.suspended)
        if not kind and self.chance.random() < 0.1:
            self.parallelism = self.chance.randint(self.parallelism, 3)
            self.lab.edit(parallelism=self.parallelism)

    def remember(self, role: str, arm: str | None) -> None:
        if role == "train" and arm:
            self.trained.add(arm)


def check(world: World, before: Status, after: Status) -> None:
    """What must hold of every status, whatever was seen."""
    old = {work.name: work for work in (*before.stages, *before.components)}
    for arm in after.components:
        check_work(arm, old.get(arm.name))
        check_arm(world, arm)
    for stage in after.stages:
        check_work(stage, old.get(stage.name))
    holds = {condition.type: condition.status == "True" for condition in after.conditions}
    assert holds["Ready"] == holds["Complete"] == (after.phase == "Succeeded")
    assert holds["Failed"] == (after.phase == "Failed")
    assert holds["Suspended"] == (after.phase == "Suspended")
    assert holds["Reconciling"] == (after.phase not in ("Succeeded", "Failed", "Suspended"))
    assert (after.completion_time is not None) == (after.phase in ENDED)
    assert sum(arm.phase in HOLDING for arm in after.components) <= world.parallelism
    if before.phase in ENDED:
        assert (after.phase, after.components, after.stages) == (before.phase, before.components, before.stages)
    if after.phase == "Succeeded":
        assert all(arm.phase == "Succeeded" for arm in after.components)


def check_work(work: Stage | Component, old: Stage | Component | None) -> None:
    if old is not None:
        assert work.attempt >= old.attempt
        assert work.failed_attempts >= old.failed_attempts
        assert old.phase not in ENDED or work == old
    assert work.failed_attempts <= BACKOFF_LIMIT + 1
    assert (work.completion_time is not None) == (work.phase in ENDED)
    if work.phase == "Failed":
        assert work.failure is not None
    if work.phase in ENDED:
        assert work.waiting is None
    if work.phase == "Pending" and work.retry_time is not None:
        assert work.waiting is not None


def check_arm(world: World, arm: Component) -> None:
    if arm.phase == "Succeeded":
        assert arm.evaluations, "no success without a score"
    if arm.trained_time is not None:
        assert arm.name in world.trained, "no evaluation of what was not trained"
    if arm.phase in ("Evaluating", "Succeeded"):
        assert arm.trained_time is not None or arm.component == "raw"
    if arm.phase in ("Starting", "Training", "Evaluating"):
        assert arm.admitted_time is not None
        assert not world.suspended, "a suspended run holds nothing"
    if arm.phase == "Training":
        assert arm.start_time is not None
    assert arm.gpu_seconds >= 0


@pytest.mark.parametrize("seed", range(40))
def test_a_life_by_chance(seed: int) -> None:
    chance = random.Random(seed)
    policy = chance.choice(["Continue", "FailFast"])
    lab = new(components=COMPONENTS, backoffLimit=BACKOFF_LIMIT, failurePolicy=policy, preRunningDeadlineSeconds=120)
    world = World(lab, chance)
    walk(world, 150, kind=False)
    if world.suspended:
        world.suspended = False
        lab.edit(suspend=False)
    walk(world, 400, kind=True)
    assert lab.status.phase in ("Succeeded", "Failed"), "left alone, every run comes to its end"


def walk(world: World, steps: int, kind: bool) -> None:
    lab = world.lab
    for _ in range(steps):
        before = lab.status
        # An operator that was away sees the outcome of several things at once.
        for _ in range(1 if kind else world.chance.randint(1, 4)):
            world.happen(kind)
        check(world, before, lab.look(world.chance.choice([0.0, 1.0, 15.0, 90.0])))
        world.keep_up()


def test_chance_reaches_every_end() -> None:
    """The walks above are worth something only if they get around."""
    ends: set[str] = set()
    for seed in range(40):
        lab = new(components=COMPONENTS, backoffLimit=BACKOFF_LIMIT, preRunningDeadlineSeconds=120)
        world = World(lab, random.Random(seed))
        walk(world, 150, kind=False)
        for arm in lab.status.components:
            ends |= {arm.phase, arm.failure.reason if arm.failure else ""}
    assert {"Succeeded", "Failed", "OOMKilled", "Evicted", "ImagePullBackOff"} <= ends
