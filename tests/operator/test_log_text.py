"""The end of a log, what must not be seen in it, and what it says."""

from pathlib import Path

import pytest
from unisd_operator.log_text import end_of, last_lines, masked, reason_in, tail

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
    log = (Path(__file__).parent / "status/logs/vllm_too_long.log").read_text()
    assert "KV cache is needed" not in tail(log)
    end = end_of(log)
    assert len(end.encode()) <= 4096
    assert end.startswith("(EngineCore pid=61) ValueError: To serve at least one request")
    assert end.endswith("Failed core proc(s): {}\n")
    other = "ValueError: of something else\n" + "line\n" * 2000
    assert end_of(other) == tail(other)


def test_a_harmless_line_names_nothing() -> None:
    assert reason_in("NCCL version 2.27.5+cuda12.8\nusing CUDA 12.8, CUBLAS_STATUS_SUCCESS\n") is None


def test_last_lines_leave_out_empty_ones() -> None:
    assert last_lines("a\n\n  b \n\n", lines=5) == "a | b"
    assert last_lines("x" * 2000) == "x" * 1000
