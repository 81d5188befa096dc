"""What the blocks of a run say to a cluster: images, resources, pods, storage. One machine ignores them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from unisd.config.base import Config, DataKey, FilePath, HubId, Name, ObjectName, PositiveInt, Text
from unisd.config.choices import Engine
from unisd.config.names import GROUP

RESERVED_LABELS = (f"{GROUP}/", "kueue.x-k8s.io/", "app.kubernetes.io/managed-by")
"""Beginnings of labels that the operator sets itself; on a pod of the user's they would mislead it, or Kueue."""
_QUANTITY = r"^[0-9]+([.][0-9]*)?([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$"
_LONGEST_NAME = 253
_LONGEST_VALUE = 65536
_MAX_INT64 = 2**63 - 1
_LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"


def _named(value: dict[str, Any]) -> dict[str, Any]:
    name = value.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME:
        raise ValueError(f"needs a name of at most {_LONGEST_NAME} characters")
    return value


def _with_text(variable: dict[str, Any]) -> dict[str, Any]:
    value = variable.get("value", "")
    if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
        raise ValueError(f"its value must be text of at most {_LONGEST_VALUE} characters: numbers go in quotes")
    return variable


def _named_object(**properties: dict[str, Any]) -> WithJsonSchema:
    """Schema of an object of Kubernetes' own, of which a name and little else is known here."""
    name = {"type": "string", "minLength": 1, "maxLength": _LONGEST_NAME}
    known = {"name": name, **properties}
    return WithJsonSchema({"type": "object", "required": ["name"], "properties": known, "additionalProperties": True})


def _not_reserved(labels: Mapping[str, str]) -> Mapping[str, str]:
    found = next((label for label in labels if label.startswith(RESERVED_LABELS)), None)
    if found is not None:
        raise ValueError(f"label {found} is the operator's own: choose another (for Kueue, spec.queueName)")
    return labels


def _as_text(value: object) -> object:
    return str(value) if type(value) is int and value <= _MAX_INT64 else value


# Kubernetes' own types, checked by the API server, which knows them better than a copy of them here would.
KubernetesObject = dict[str, Any]
KubernetesList = Annotated[list[KubernetesObject], Field(max_length=64)]
NamedObject = Annotated[KubernetesObject, AfterValidator(_named), _named_object()]
NamedList = Annotated[list[NamedObject], Field(max_length=64)]
Variable = Annotated[
    KubernetesObject,
    AfterValidator(_named),
    AfterValidator(_with_text),
    _named_object(
        value={
            "type": "string",
            "maxLength": _LONGEST_VALUE,
            "description": "Text: what looks like a number in quotes.",
        }
    ),
]
StringMap = Annotated[dict[str, Text], Field(max_length=64)]
LabelValue = Annotated[str, Field(pattern=_LABEL_VALUE, max_length=63)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]
# As Kubernetes has them: `4`, `"500m"`, `80Gi`.
Quantity = Annotated[
    str,
    Field(pattern=_QUANTITY, max_length=32),
    BeforeValidator(_as_text),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY,
            "minimum": 0,
            "maxLength": 32,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
Size = Annotated[str, Field(pattern=_QUANTITY, max_length=32)]
Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]
Image = Annotated[str, Field(pattern=r"^[!-~]+$", max_length=1024)]


class Resources(Config):
    """Requests and limits, as a container takes them."""

    requests: Quantities | None = None
    """What the scheduler reserves, e.g. `cpu: 4, memory: 80Gi`. Default: by model size (docs/operator/sizing.md)."""
    limits: Quantities | None = None
    """What the container may use at most, e.g. `nvidia.com/gpu: 1`. Default: its GPUs alone."""


class Pod(Config):
    """Additions to the pods of a block, with Kubernetes' own names and meanings."""

    node_selector: Labels | None = None
    """Labels that a node must have, e.g. `nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3`. Default: none."""
    tolerations: KubernetesList | None = None
    """Taints of nodes that the pods bear. Default: the installation's."""
    affinity: KubernetesObject | None = None
    """Node and pod affinity. Default: none; with ReadWriteOnce storage, the node of the claim."""
    topology_spread_constraints: KubernetesList | None = None
    """How the pods spread over zones and nodes. Default: none."""
    env: Annotated[list[Variable], Field(max_length=64)] | None = None
    """Environment variables of the main container, beside the operator's own. Default: none."""
    env_from: KubernetesList | None = None
    """Secrets and ConfigMaps whose keys become environment variables, e.g. one with HF_TOKEN. Default: none."""
    volumes: NamedList | None = None
    """Further volumes. Default: none."""
    volume_mounts: NamedList | None = None
    """Where the main container mounts them. Default: nowhere."""
    labels: Annotated[Labels, AfterValidator(_not_reserved)] | None = None
    """Labels of the pods. Default: the operator's own alone."""
    annotations: StringMap | None = None
    """Annotations of the pods. Default: none."""
    image_pull_secrets: NamedList | None = None
    """Secrets to pull images with. Default: the installation's."""
    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods; its token is not mounted. Default `default`."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods. Default: the cluster's."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of the pods, e.g. `nvidia`. Default: the cluster's."""
    scheduler_name: ObjectName | None = None
    """Scheduler of the pods. Default: the cluster's."""
    termination_grace_period_seconds: PositiveInt | None = None
    """Time to write a checkpoint after SIGTERM, seconds. Default: 120 for trainers, 30 for others."""


class Container(Config):
    """A block whose work runs in pods of its own."""

    image: Image | None = None
    """Container image. Default: the operator's setting."""
    resources: Resources | None = None
    """Requests and limits of its container. Default: by model size (docs/operator/sizing.md)."""
    pod: Pod | None = None
    """Additions to the pods: where they run, environment, volumes, labels. Default: the installation's."""


class Preparation(Container):
    """The stages that a run's components share: fetching and contexts."""


class Rollout(Container):
    """How completions are sampled while training."""

    engine: Engine = "vllm"
    """`vllm`: servers of their own; `transformers`: inside the trainer. Default `vllm`."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Rollout servers per component. Default 1."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs of one server. Default 1."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = 0.7
    """Temperature τ of sampling, and of the divergence. Default 0.7."""
    enforce_eager: bool = False
    """Serve without compiling the model: vLLM is ready minutes earlier, and generates more slowly. Default false."""


class DeepSpeed(Config):
    """Sharding of the trainer's state over its processes."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """ZeRO stage: 0 shards nothing, 1 moments, 2 also gradients, 3 also weights (docs/training.md). Default 2."""


class Trainer(Config):
    """The training job of a component."""

    image: Image | None = None
    """Container image. Default: the operator's setting."""
    num_nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Pods. Default 1."""
    num_proc_per_node: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes, and GPUs, of a pod. Default 1."""
    resources_per_node: Resources | None = None
    """Requests and limits of a pod. Default: by model size (docs/operator/sizing.md)."""
    deepspeed: DeepSpeed = DeepSpeed()
    """Sharding of the trainer's state over its processes. Default: ZeRO stage 2."""
    pod: Pod | None = None
    """Additions to the pods: where they run, environment, volumes, labels. Default: the installation's."""


class Storage(Config):
    """The claim that holds models, data, checkpoints and reports."""

    size: Size | None = None
    """Size of a claim that the run makes, e.g. `200Gi`. Default: by model size (docs/operator/sizing.md)."""
    storage_class_name: ObjectName | None = None
    """Storage class of that claim. Default: the cluster's."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] | None = None
    """Access mode of that claim; ReadWriteOnce needs `trainer.numNodes: 1`. Default ReadWriteMany."""
    policy: Literal["Retain", "Delete", "RetainOnFailure"] | None = None
    """What becomes of that claim with the run. Default `Retain`."""
    existing_claim: ObjectName | None = None
    """A claim that exists and is kept; excludes size, storageClassName, accessMode and
    policy. Default: the run makes one."""
    sub_path: FilePath | None = None
    """Folder inside the existing claim. Default: its root."""


class SecretKey(Config):
    """One key of a Secret in the run's namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: DataKey
    """Key whose value is the token."""


class Token(Config):
    """A token, by reference only."""

    secret_key_ref: SecretKey
    """Secret that holds it."""


class HubOutput(Config):
    """A hub repository that each trained adapter is pushed to."""

    repository: HubId
    """Repository id; the component's name is appended."""
    private: bool = True
    """Make the repository private. Default true."""
    token: Token | None = None
    """Token with write access. Default: the environment's."""


class Outputs(Config):
    """Where results go besides the claim."""

    hub: HubOutput | None = None
    """Push each trained adapter, with its model card, to a model hub. Default: not pushed."""


class Wandb(Config):
    """Weights & Biases; its key comes from WANDB_API_KEY."""

    project: Name
    """Project to log to."""
    entity: Name | None = None
    """Team or user. Default: the key's own."""


class Tracking(Config):
    """Experiment trackers."""

    wandb: Wandb | None = None
    """Log to Weights & Biases; its key is WANDB_API_KEY (clusters: by trainer.pod.envFrom). Default: not logged."""
