"""Which logs are kept."""

from unisd_operator.cluster.logs import wants_log
from unisd_operator.observed import ContainerState, PodState


def pod(phase: str) -> PodState:
    return PodState("p", "u", "train", "star-1", 1, phase, created=None)  # type: ignore[arg-type]


def test_logs_are_kept_of_what_has_failed() -> None:
    assert wants_log(pod("Failed"), ContainerState("train", exit_code=1))
    assert not wants_log(pod("Succeeded"), ContainerState("train", exit_code=0))
    assert not wants_log(pod("Running"), ContainerState("train", running=True))
    assert wants_log(pod("Running"), ContainerState("vllm", exit_code=1, waiting_reason="CrashLoopBackOff"))
