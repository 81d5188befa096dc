"""The bench of pushes with a client that keeps what it was given; the servers are tested where they stand."""

from safetensors.torch import load

from bench.push import PROJECTIONS, REQUESTS, adapter, measure, table
from bench.step import SHAPES


class Client:
    def __init__(self):
        self.versions, self.asked, self.push_seconds = [], [], []

    def publish(self, policy):
        self.versions.append(policy)

    def generate(self, prompts, sampling):
        self.asked.append((self.versions[-1].version, len(prompts), sampling.max_tokens))
        return iter(())


def test_each_version_is_pushed_whole_and_asked_for():
    client = Client()
    tensors, config = adapter("tiny", 4, "cpu")
    found = measure(client, tensors, config, 3)
    assert [policy.version for policy in client.versions] == [1, 2, 3]
    assert [(version, count) for version, count, _ in client.asked] == [
        pair for version in (1, 2, 3) for pair in ((version, 1), (version, REQUESTS))
    ]
    sent = load(bytes(client.versions[0].body))
    assert sent.keys() == tensors.keys()
    assert len(sent) == 2 * len(PROJECTIONS) * SHAPES["tiny"].config["num_hidden_layers"]
    assert all(value.abs().sum() > 0 for value in sent.values())
    lines = list(table(found, len(client.versions[0].body)))
    assert lines[-1].startswith("| median of the later |")
    assert len(lines) == 3 + 4
