import base64

from unisd_operator.planning import secret

from tests.operator.planning.world import KEY, World, attempt, resource, status


def test_the_key_follows_from_run_work_and_attempt() -> None:
    run, other = resource(), resource(uid="5678")
    keys = [
        secret.api_key(KEY, attempt(run)),
        secret.api_key(KEY, attempt(run, number=2)),
        secret.api_key(KEY, attempt(run, "sft-1")),
        secret.api_key(KEY, attempt(run, "contexts")),
        secret.api_key(KEY, attempt(other)),
        secret.api_key(b"another installation", attempt(run)),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == secret.api_key(KEY, attempt(run))
    assert all(len(key) == 43 for key in keys), "256 bits"


def test_no_object_but_the_secret_holds_the_key() -> None:
    run = resource(status({"contexts": "Starting"}, star_1="Starting", sft_1="Evaluating"), queueName="q")
    applied = World().plan(run).apply
    secrets = [item for item in applied if item["kind"] == "Secret"]
    assert len(secrets) == 3
    rest = str([item for item in applied if item["kind"] != "Secret"])
    for item in secrets:
        encoded = item["data"]["api-key"]
        assert encoded not in rest
        assert base64.b64decode(encoded).decode() not in rest
    assert KEY.decode() not in rest
