from pathlib import Path
from typing import Any

from unisd_operator.planning import grader, rollout, stage_job, trainer
from unisd_operator.settings import Security, Settings

from tests.operator.planning.world import World, attempt, resource, status
from unisd.config.cluster import Pod
from unisd.rundir import RunDir


def train_pod(settings: Settings | None = None, **spec: Any) -> Any:
    return trainer.pod_template(attempt(resource(**spec), settings=settings))


def environment(container: Any) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def test_the_installations_additions_come_first_and_the_runs_on_top() -> None:
    house = Settings(
        env={"HTTPS_PROXY": "http://proxy:3128", "A": "house"},
        pod=Pod(
            node_selector={"pool": "gpu", "disk": "fast"},
            tolerations=[{"key": "gpu", "operator": "Exists"}],
            labels={"team": "house"},
            env=[{"name": "B", "value": "house"}],
            image_pull_secrets=[{"name": "house"}],
            priority_class_name="house",
        ),
    )
    own = {
        "nodeSelector": {"pool": "own"},
        "tolerations": [{"key": "own", "operator": "Exists"}],
        "labels": {"team": "own"},
        "annotations": {"a": "b"},
        "env": [{"name": "A", "value": "own"}, {"name": "B", "value": "$(A)"}, {"name": "UNISD_ATTEMPT", "value": "9"}],
        "envFrom": [{"secretRef": {"name": "key"}}],
        "imagePullSecrets": [{"name": "own"}],
        "priorityClassName": "own",
        "terminationGracePeriodSeconds": 7,
        "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    }
    pod = train_pod(house, trainer={"pod": own})
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["nodeSelector"] == {"pool": "own", "disk": "fast"}
    assert [one["key"] for one in spec["tolerations"]][:2] == ["gpu", "own"]
    assert pod["metadata"]["labels"]["team"] == "own"
    assert pod["metadata"]["annotations"] == {"a": "b"}
    assert spec["imagePullSecrets"] == [{"name": "house"}, {"name": "own"}]
    assert (spec["priorityClassName"], spec["terminationGracePeriodSeconds"]) == ("own", 7)
    assert spec["volumes"][-1]["name"] == "ca"
    assert container["volumeMounts"][-1] == {"name": "ca", "mountPath": "/ca"}
    assert container["envFrom"] == [{"secretRef": {"name": "key"}}]
    found = environment(container)
    assert found["HTTPS_PROXY"] == "http://proxy:3128"
    assert (found["A"], found["B"], found["UNISD_ATTEMPT"]) == ("own", "$(A)", "1")
    names = [item["name"] for item in container["env"]]
    assert len(set(names)) == len(names)
    assert names.index("A") < names.index("B"), "a variable may refer to those before it"


def test_no_pod_waits_five_minutes_on_a_lost_node() -> None:
    lost = [one for one in train_pod()["spec"]["tolerations"] if "tolerationSeconds" in one]
    assert [one["tolerationSeconds"] for one in lost] == [30, 30]
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 600, "effect": "NoExecute"}
    given = train_pod(trainer={"pod": {"tolerations": [own]}})["spec"]["tolerations"]
    assert [one["tolerationSeconds"] for one in given] == [600, 30]
    refused = {"key": [{}]}
    assert refused in train_pod(trainer={"pod": {"tolerations": [refused]}})["spec"]["tolerations"]


def test_every_cache_lies_in_the_one_writable_place() -> None:
    (container,) = train_pod()["spec"]["containers"]
    found = environment(container)
    caches = "HOME XDG_CACHE_HOME HF_HOME VLLM_CACHE_ROOT TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR"
    for name in f"{caches} TORCH_EXTENSIONS_DIR CUDA_CACHE_PATH NUMBA_CACHE_DIR".split():
        assert found[name].startswith("/scratch"), name
    scratch = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "scratch"]
    assert scratch == ["/scratch", "/tmp"]
    assert found["TMPDIR"] == "/tmp"
    assert found["USER"]


def test_any_user_may_run_it() -> None:
    default = train_pod()["spec"]["securityContext"]
    assert (default["fsGroup"], default["fsGroupChangePolicy"]) == (1000, "OnRootMismatch")
    assert "runAsUser" not in default
    given = train_pod(Settings(security=Security(run_as_user=123456, fs_group=None)))["spec"]["securityContext"]
    assert given["runAsUser"] == 123456
    assert "fsGroup" not in given


def test_a_rollout_pod_has_one_listener_and_no_probe_that_kills_a_loading_model() -> None:
    spec = rollout.pod_template(attempt(resource()))["spec"]
    vllm, agent = spec["containers"]
    assert "ports" not in vllm
    assert not [name for name in vllm if name.endswith("Probe")]
    command = vllm["command"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert agent["livenessProbe"]["httpGet"]["path"] == agent["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert agent["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {port["containerPort"] for port in agent["ports"]} == {8000, 9400}


def test_a_server_reads_the_claim_and_shares_adapters_in_memory() -> None:
    spec = rollout.pod_template(attempt(resource(model={"name": "a/7B", "lora": {"rank": 48}})))["spec"]
    vllm, agent = spec["containers"]
    assert {"name": "data", "mountPath": "/data", "readOnly": True} in vllm["volumeMounts"]
    assert {"name": "adapters", "mountPath": "/adapters", "readOnly": True} in vllm["volumeMounts"]
    assert {"name": "adapters", "mountPath": "/adapters"} in agent["volumeMounts"]
    assert "data" not in {mount["name"] for mount in agent["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["adapters"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1395Mi"}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    command = " ".join(vllm["command"])
    model = RunDir(Path("/data/runs/1234")).prepared.model
    assert f"{model} --served-model-name base" in command
    assert "--enable-lora --max-loras 2 --max-cpu-loras 4 --max-lora-rank 64" in command
    assert "--max-model-len 4097" in command
    assert environment(vllm)["VLLM_API_KEY"] == {"secretKeyRef": {"name": "demo-star-1-rollout-1", "key": "api-key"}}


def test_only_servers_of_what_is_trained_take_adapters() -> None:
    run = resource(components=[{"name": "star", "preset": "ema"}, {"name": "raw", "preset": "raw"}])
    for work, adapters in (("star-1", True), ("raw-1", False), ("contexts", False)):
        vllm = rollout.pod_template(attempt(run, work))["spec"]["containers"][0]
        assert ("--enable-lora" in vllm["command"]) == adapters, work


def test_torchrun_finds_its_first_pod() -> None:
    run = resource(trainer={"numNodes": 2, "numProcPerNode": 4})
    job = trainer.job(attempt(run, number=3))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert (spec["backoffLimit"], spec["podReplacementPolicy"], pod["restartPolicy"]) == (0, "Failed", "Never")
    (container,) = pod["containers"]
    found = environment(container)
    assert (found["PET_NNODES"], found["PET_NPROC_PER_NODE"], found["PET_MASTER_PORT"]) == ("2", "4", "29500")
    assert found["PET_MASTER_ADDR"] == "demo-star-1-train-3-0.demo-star-1-train-3.lab.svc"
    assert pod["subdomain"] == trainer.service(attempt(run, number=3))["metadata"]["name"] == "demo-star-1-train-3"
    assert trainer.service(attempt(run))["spec"]["publishNotReadyAddresses"] is True
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert container["resources"]["requests"]["memory"] == "160Gi"
    assert container["command"] == [
        *("unisd", "train", "-f", "/etc/unisd/run.json"),
        *("--directory", "/data/runs/1234", "--arm", "star-1"),
    ]


def test_only_a_trainer_that_samples_gets_the_key() -> None:
    def names(arm: str, **spec: Any) -> set[str]:
        (container,) = trainer.pod_template(attempt(resource(**spec), arm))["spec"]["containers"]
        return set(environment(container))

    assert {"UNISD_API_KEY", "UNISD_ROLLOUT_SERVICE"} <= names("star-1")
    assert not {"UNISD_API_KEY", "UNISD_ROLLOUT_SERVICE"} & names("sft-1")
    assert not {"UNISD_API_KEY"} & names("star-1", rollout={"engine": "transformers"})


def test_preparation_alone_reaches_the_hub_and_keeps_what_it_fetched() -> None:
    run = resource()
    (job,) = [item for item in stage_job.prepare_objects(attempt(run, "prepare")) if item["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found = environment(container)
    assert (found["HF_HUB_OFFLINE"], found["HF_HOME"]) == ("0", "/data/cache/huggingface")
    assert "limits" not in container["resources"], "no GPU"
    (trained,) = trainer.pod_template(attempt(run))["spec"]["containers"]
    assert environment(trained)["HF_HUB_OFFLINE"] == "1"


def test_who_generates_by_itself_gets_a_gpu() -> None:
    asks, generates = resource(), resource(rollout={"engine": "transformers"})
    for run, gpus in ((asks, None), (generates, {"nvidia.com/gpu": "1"})):
        template = stage_job.pod_template(attempt(run), "evaluate", "evaluation", [])
        (container,) = template["spec"]["containers"]
        assert container["resources"].get("limits") == gpus
        assert ("shm" in {volume["name"] for volume in template["spec"]["volumes"]}) == (gpus is not None)


def test_the_grader_has_neither_claim_nor_secret() -> None:
    run = resource(task={"name": "mbpp"}, storage={"accessMode": "ReadWriteOnce"})
    secret, volume = {"secretRef": {"name": "house"}}, {"name": "ca", "configMap": {"name": "ca"}}
    house = Settings(pod=Pod(env_from=[secret], volumes=[volume], node_selector={"pool": "cpu"}))
    (deployment,) = [
        item for item in grader.grader_objects(attempt(run, "grader", settings=house)) if item["kind"] == "Deployment"
    ]
    spec = deployment["spec"]["template"]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch"]
    assert "secret" not in str(spec)
    assert (spec["nodeSelector"], "affinity" in spec) == ({"pool": "cpu"}, False)
    assert spec["containers"][0]["resources"]["limits"]["memory"]


def test_the_users_secrets_stay_out_of_every_other_pod() -> None:
    pod = {"envFrom": [{"secretRef": {"name": "hub-token"}}]}
    run = resource(status({"prepare": "Starting"}, star_1="Starting"), preparation={"pod": pod})
    holders = [item["metadata"]["name"] for item in World().plan(run).apply if "hub-token" in str(item)]
    assert holders == ["demo-prepare-1"]
