"""What the blocks of a run say to a cluster: images, resources, pods, storage. One machine ignores them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from unisd.config.base import Config, Name, PositiveInt, Text

# Kubernetes' own types, checked by the API server, which knows them better than a copy of them here would.
KubernetesObject = dict[str, Any]
KubernetesList = Annotated[list[KubernetesObject], Field(max_length=64)]
StringMap = Annotated[dict[str, Text], Field(max_length=64)]


class Resources(Config):
    """Requests and limits, as a container takes them."""

    requests: StringMap | None = None
    """What the scheduler reserves, e.g. `cpu: "4"`."""
    limits: StringMap | None = None
    """What the container may use at most, e.g. `nvidia.com/gpu: "1"`."""


class Pod(Config):
    """Additions to the pods of a block, with Kubernetes' own names and meanings."""

    node_selector: StringMap | None = None
    tolerations: KubernetesList | None = None
    affinity: KubernetesObject | None = None
    topology_spread_constraints: KubernetesList | None = None
    env: KubernetesList | None = None
    env_from: KubernetesList | None = None
    volumes: KubernetesList | None = None
    volume_mounts: KubernetesList | None = None
    labels: StringMap | None = None
    annotations: StringMap | None = None
    image_pull_secrets: KubernetesList | None = None
    service_account_name: Name | None = None
    priority_class_name: Name | None = None
    runtime_class_name: Name | None = None
    scheduler_name: Name | None = None
    termination_grace_period_seconds: PositiveInt | None = None


class Container(Config):
    """A block whose work runs in pods of its own."""

    image: Text | None = None
    """Container image. Default: the operator's setting."""
    resources: Resources | None = None
    """Requests and limits. Default: by model size (docs)."""
    pod: Pod | None = None
    """Additions to the pods."""


class Preparation(Container):
    """The stages that a run's components share: fetching and contexts."""


class Rollout(Container):
    """How completions are sampled while training."""

    engine: Literal["vllm", "transformers"] = "vllm"
    """`vllm`: servers of their own; `transformers`: inside the trainer. Default `vllm`."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Rollout servers per component. Default 1."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs of one server. Default 1."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = 0.7
    """Temperature τ of sampling, and of the divergence. Default 0.7."""


class DeepSpeed(Config):
    """Sharding of the trainer's state over its processes."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """ZeRO stage: 1 shards moments, 2 also gradients, 3 also weights. Default 2."""


class Trainer(Config):
    """The training job of a component."""

    image: Text | None = None
    """Container image. Default: the operator's setting."""
    num_nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Pods. Default 1."""
    num_proc_per_node: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes, and GPUs, of a pod. Default 1."""
    resources_per_node: Resources | None = None
    """Requests and limits of a pod. Default: by model size (docs)."""
    deepspeed: DeepSpeed = DeepSpeed()
    """Sharding."""
    pod: Pod | None = None
    """Additions to the pods."""


class Storage(Config):
    """The claim that holds models, data, checkpoints and reports."""

    size: Name | None = None
    """Size of a claim that the run makes, e.g. `200Gi`. Default: by model size (docs)."""
    storage_class_name: Name | None = None
    """Storage class of that claim. Default: the cluster's."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] | None = None
    """Access mode of that claim; ReadWriteOnce needs `trainer.numNodes: 1`. Default ReadWriteMany."""
    policy: Literal["Retain", "Delete", "RetainOnFailure"] | None = None
    """What becomes of that claim with the run. Default `Retain`."""
    existing_claim: Name | None = None
    """A claim that exists; excludes the fields above."""
    sub_path: Text | None = None
    """Folder inside the existing claim."""


class SecretKey(Config):
    """One key of a Secret in the run's namespace."""

    name: Name
    """Name of the Secret."""
    key: Name
    """Key whose value is the token."""


class Token(Config):
    """A token, by reference only."""

    secret_key_ref: SecretKey
    """Where it lies."""


class HubOutput(Config):
    """A hub repository that each trained adapter is pushed to."""

    repository: Name
    """Repository id; the component's name is appended."""
    private: bool = True
    """Make the repository private. Default true."""
    token: Token | None = None
    """Token with write access."""


class Outputs(Config):
    """Where results go besides the claim."""

    hub: HubOutput | None = None
    """Push adapters with their model cards."""


class Wandb(Config):
    """Weights & Biases; its key comes from the trainer pod's environment."""

    project: Name
    """Project to log to."""
    entity: Name | None = None
    """Team or user. Default: the key's own."""


class Tracking(Config):
    """Experiment trackers."""

    wandb: Wandb | None = None
    """Log to Weights & Biases."""
