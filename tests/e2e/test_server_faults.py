"""Rollout servers that cannot serve the run's model, and who may ask them."""

import json

import pytest

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import SERVED, SERVED_ARM, failure_of, manifest, start, trainers

# What the agent answers to a request without a key, with a wrong one, and with the trainer's own.
ASK = """
import json, os, urllib.error, urllib.request

def ask(headers):
    request = urllib.request.Request(f"http://{os.environ['UNISD_ROLLOUT_SERVICE']}/v1/models", headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code

keys = ["wrong", os.environ["UNISD_API_KEY"]]
print(json.dumps([ask(headers) for headers in ({}, *({"Authorization": f"Bearer {key}"} for key in keys))]))
"""


@pytest.mark.full
def test_a_server_that_keeps_ending_is_told_by_its_own_words_and_asks_for_the_key(node: NodeCluster, team: str) -> None:
    # Longer requests than the memory for a server's cache can hold.
    start(node, team, manifest("crashes", training={"maxPromptTokens": 3_000_000}, backoffLimit=0, **SERVED))

    def answers() -> list[int]:
        pods = list(trainers(node, team))
        assert pods
        found: list[int] = json.loads(node.kubectl("exec", pods[0], "-n", team, "--", "python", "-c", ASK))
        return found

    assert eventually(answers, within=240, every=1) == [401, 401, 503], "with the key it is vLLM that does not answer"
    failure = failure_of(node, team, "crashes", SERVED_ARM)
    assert (failure["reason"], failure["container"]) == ("RolloutCrash", "vllm"), failure
    assert "KV cache is needed" in failure["message"], failure
