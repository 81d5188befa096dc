"""Ports of a run's pods."""

ROLLOUT = 8000
"""Policy agent, the only listener of a rollout pod."""
VLLM = 8001
"""vLLM, on the loopback interface of a rollout pod."""
GRADER = 8002
METRICS = 9400
"""`/metrics` and `/progress` of every pod that has them."""
RENDEZVOUS = 29500
"""Where the processes of a training meet."""
