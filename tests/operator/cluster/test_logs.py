"""The end of a log, and what must not be seen in it."""

from pathlib import Path

import pytest
from unisd_operator.cluster.logs import end_of, masked, tail, wants_log
from unisd_operator.observed import ContainerState, PodState

SECRET = "s3cr3tValue0123456789"


@pytest.mark.parametrize(
    "line",
    [
        f"HF_TOKEN={SECRET}",
        f'"api_key": "{SECRET}"',
        f"--api-key {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"password: {SECRET}",
        f"https://user:{SECRET}@example.org/x",
        f"WANDB_API_KEY='{SECRET}'",
        f"using hf_{SECRET}",
        f"key sk-{SECRET} refused",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_masked(line: str) -> None:
    assert SECRET not in masked(f"before\n{line}\nafter")
    assert masked(f"before\n{line}\nafter").startswith("before\n")
    assert masked(f"before\n{line}\nafter").endswith("\nafter")


@pytest.mark.parametrize(
    "line",
    [
        "step 12: loss 0.25, 4096 tokens, lr 2e-5",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "tokenizer: Qwen2TokenizerFast",
        "tokens: 12",
    ],
)
def test_what_is_no_secret_is_left(line: str) -> None:
    assert masked(line) == line


def test_a_tail_begins_with_a_line_and_fits() -> None:
    text = "\n".join(f"line {index}" for index in range(2000))
    end = tail(text, 100)
    assert len(end.encode()) <= 100
    assert end.startswith("line ")
    assert end.endswith("line 1999")
    assert tail("short", 100) == "short"
    assert len(tail("ü" * 100, 51).encode()) <= 51


def test_an_error_above_the_end_that_points_to_it_is_kept() -> None:
    log = (Path(__file__).parents[1] / "status/logs/vllm_too_long.log").read_text()
    assert "KV cache is needed" not in tail(log)
    end = end_of(log)
    assert len(end.encode()) <= 4096
    assert end.startswith("(EngineCore pid=61) ValueError: To serve at least one request")
    assert end.endswith("Failed core proc(s): {}\n")
    other = "ValueError: of something else\n" + "line\n" * 2000
    assert end_of(other) == tail(other)


def pod(phase: str) -> PodState:
    return PodState("p", "u", "train", "star-1", 1, phase, created=None)  # type: ignore[arg-type]


def test_logs_are_kept_of_what_has_failed() -> None:
    assert wants_log(pod("Failed"), ContainerState("train", exit_code=1))
    assert not wants_log(pod("Succeeded"), ContainerState("train", exit_code=0))
    assert not wants_log(pod("Running"), ContainerState("train", running=True))
    assert wants_log(pod("Running"), ContainerState("vllm", exit_code=1, waiting_reason="CrashLoopBackOff"))
