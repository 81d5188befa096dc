"""The local runner's rollout servers: on each device one vLLM behind the same policy agent as in a cluster.

A server is a process of its own, forked like a stage and started with the first stage that needs it: the stage waits
for it as a client does in a cluster. It serves every component on its device until the run ends, since components share
the base model. vLLM runs in an environment of its own; one that ends is started again. Called by the runner.
"""

import os
import secrets
import shutil
from typing import Any

from unisd.config.resolve import resolve
from unisd.config.run import RunSpec, SelfDistillRun
from unisd.config.serving import SERVER_ENVIRONMENT, evaluates_on_servers, serve_arguments, trains_on_servers
from unisd.execution.devices import device_id
from unisd.failures import StageError
from unisd.files import Json
from unisd.listening import free_ports
from unisd.local.rollout import ENDS, GRACE_SECONDS, Plan, carry_on
from unisd.local.state import log_tail
from unisd.rundir import RunDir
from unisd.stages import Stage

_ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # no core for itself alone: the trainer computes beside it
    "TORCHDYNAMO_DISABLE": "1",  # its sampler would be compiled at the first request, for minutes
}
"""Environment of a server without a GPU."""


def uses_servers(spec: RunSpec, stage: Stage) -> bool:
    """Whether a stage generates on rollout servers."""
    if stage.kind == "contexts":
        return spec.rollout.engine == "vllm"
    if stage.arm is None:
        return False
    return (trains_on_servers if stage.kind == "train" else evaluates_on_servers)(spec, stage.arm)


def vllm_program() -> str:
    """The program of vLLM: `UNISD_VLLM`, or `vllm` on the path.

    Raises:
        StageError: BadInput, where there is none.
    """
    wanted = os.environ.get("UNISD_VLLM") or "vllm"
    found = shutil.which(wanted)
    if found is None:
        raise StageError(
            "BadInput",
            f"spec.rollout.engine: vllm needs vLLM, and there is no program {wanted!r}. Install vLLM in an environment "
            "of its own (without a GPU: `make rollout-cpu`) and let UNISD_VLLM name its program, or set the engine to "
            "transformers",
        )
    return found


class Servers:
    """The servers of one run."""

    def __init__(self, run: SelfDistillRun, directory: RunDir, context: Any, components: int = 1) -> None:
        """Starts none yet; `context` makes processes, `components` may share a device at any time."""
        self._run, self._directory, self._context, self._components = run, directory, context, components
        self._key = secrets.token_hex(16)
        self._running: dict[int | None, tuple[Any, Plan]] = {}

    def environment(self, stage: Stage, device: int | None) -> dict[str, str]:
        """What a stage on a device needs to find its server, which is started if it is not there."""
        if not uses_servers(self._run.spec, stage):
            return {}
        found = self._running.get(device)
        plan = found[1] if found and found[0].is_alive() else self._start(device)
        return {"UNISD_ROLLOUT_SERVICE": f"127.0.0.1:{plan.port}", "UNISD_API_KEY": self._key}

    def failure(self, stage: Stage, device: int | None) -> Json | None:
        """Why a stage cannot go on for want of its server; None while that runs, or for a stage without."""
        if not uses_servers(self._run.spec, stage) or device not in self._running:
            return None
        process, plan = self._running[device]
        if process.is_alive():
            return None
        log = plan.folder / "log.txt"
        return {"reason": "RolloutCrash", "message": f"vLLM ended {ENDS} times; {log} ends: {log_tail(log)[-1500:]}"}

    def close(self) -> None:
        """Ends all servers."""
        for process, _ in self._running.values():
            process.terminate()
        for process, _ in self._running.values():
            process.join(2 * GRACE_SECONDS)
            process.kill()
            process.join()

    def _start(self, device: int | None) -> Plan:
        plan = self._plan(device)
        plan.folder.mkdir(parents=True, exist_ok=True)
        process = self._context.Process(target=carry_on, args=(plan,), name="rollout")
        process.start()
        self._running[device] = process, plan
        return plan

    def _plan(self, device: int | None) -> Plan:
        port, vllm_port, metrics_port = free_ports(3)
        spec = self._run.spec
        adapters = any(arm.trains and not arm.trains_whole_model for arm in resolve(spec))
        model = str(self._directory.prepared.model)
        place = ["--enforce-eager"] if device is None else ["--gpu-memory-utilization", _memory_share()]
        on_device = _ON_CPU if device is None else {"CUDA_VISIBLE_DEVICES": device_id(device)}
        address = ["--host", "127.0.0.1", "--port", str(vllm_port)]
        return Plan(
            (vllm_program(), *serve_arguments(spec, model, adapters, self._components), *address, *place),
            {**on_device, **SERVER_ENVIRONMENT, "VLLM_API_KEY": self._key},
            self._directory.stage("rollout" if device is None else f"rollout-{device}"),
            self._key,
            port=port,
            vllm_port=vllm_port,
            metrics_port=metrics_port,
        )


def _memory_share() -> str:
    """Share of a GPU's memory that its server takes, `UNISD_VLLM_MEMORY`: the stages on it have the rest."""
    return os.environ.get("UNISD_VLLM_MEMORY") or "0.4"
