"""For any specification: the API server and the models agree on whether it is valid, and what is stored is what was meant."""

import random
import re
from typing import Any

import yaml

from tests.cluster.cluster import Cluster, KubectlError
from tests.operator.api.specs import random_spec
from unisd.config.base import ConfigError
from unisd.config.load import parse_cluster_run
from unisd.config.run import RunSpec

COUNT = 500


def manifest(number: int, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "unisd.dev/v1alpha1",
        "kind": "SelfDistillRun",
        "metadata": {"name": f"random-{number}"},
        "spec": spec,
    }


LEFT = ("never acts", "is no regular expression", "has no group")


def is_valid(run: dict[str, Any]) -> bool:
    """Whether the models accept it, what only they can know left aside (rules.LEFT_TO_THE_OPERATOR)."""
    try:
        parse_cluster_run(run)
    except ConfigError as error:
        return all(any(words in problem.message for words in LEFT) for problem in error.problems)
    return True


def test_api_server_and_models_agree(definition: Cluster, namespace):
    runs = [manifest(number, random_spec(random.Random(number))) for number in range(COUNT)]
    try:
        told = definition.kubectl("create", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(runs))
    except KubectlError as error:
        told = str(error)
    stored = {run["metadata"]["name"]: run for run in definition.json("get", "sdr", "-n", namespace)["items"]}
    assert COUNT / 3 < len(stored) < COUNT * 2 / 3, "too few on one side to say much"
    for run in runs:
        name = run["metadata"]["name"]
        assert is_valid(run) == (name in stored), f"{yaml.safe_dump(run)}\n{re.findall(f'.*{name}.*', told)}"
        if name in stored:
            assert RunSpec.model_validate(stored[name]["spec"]) == RunSpec.model_validate(run["spec"])
            assert stored[name]["spec"] == run["spec"], "nothing is added and nothing is lost"
