"""Figures of a training sent to Weights & Biases, if the run asks for it (`spec.tracking.wandb`).

The key is in WANDB_API_KEY and stays there; WANDB_MODE=offline keeps everything in the component's directory, for
`wandb sync` later. An interrupted training goes on in the same record. Called by `unisd.train` in its first process.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from unisd.failures import StageError
from unisd.job import Job

_WITHOUT_KEY = frozenset({"offline", "disabled", "dryrun"})


@contextmanager
def tracked(job: Job) -> Iterator[None]:
    """Sends the metrics of each step of the job on; does nothing where nobody asked.

    Raises:
        StageError: BadInput, without the package, without a key, or if the service refuses it; NonZeroExit, if the
            service does not answer.
    """
    if job.spec.tracking is None or job.spec.tracking.wandb is None:
        yield
        return
    _check_key()
    try:
        import wandb
    except ImportError:
        raise StageError("BadInput", "spec.tracking.wandb: needs the package: pip install 'unisd[wandb]'") from None
    arm, asked = job.required_arm, job.spec.tracking.wandb
    settings = arm.model_dump(mode="json", by_alias=True, exclude_none=True)
    folder = job.directory.train(arm.name)
    try:
        record = wandb.init(
            project=asked.project,
            entity=asked.entity,
            group=job.run.metadata.name,
            name=f"{job.run.metadata.name}/{arm.name}",
            id=_identity(job),
            resume="allow",
            dir=folder,
            config=settings,
            settings=wandb.Settings(console="off", silent=True, x_disable_meta=True, disable_git=True),
        )
    except wandb.Error as error:
        raise refused(error) from None
    job.progress.follow = lambda step, metrics: record.log(dict(metrics), step=step)
    try:
        yield
    finally:
        job.progress.follow = None
        record.finish()
        wandb.teardown()  # finish alone does not wait until the record is closed: its last part could be lost


def refused(error: Exception) -> StageError:
    """Why there is no record: the key or what was asked for, or a service that may be there at the next attempt."""
    from wandb.errors import AuthenticationError, CommError

    away = isinstance(error, CommError) and not isinstance(error, AuthenticationError)
    said = f"spec.tracking.wandb: {error}; WANDB_MODE=offline does without it"
    return StageError("NonZeroExit" if away else "BadInput", said)


def _check_key() -> None:
    if os.environ.get("WANDB_MODE") not in _WITHOUT_KEY and not os.environ.get("WANDB_API_KEY"):
        raise StageError(
            "BadInput",
            "spec.tracking.wandb: WANDB_API_KEY is not set: set it (on a cluster, by trainer.pod.envFrom), or set "
            "WANDB_MODE=offline",
        )


def _identity(job: Job) -> str:
    """The same for a training that goes on, another for one with other settings."""
    arm = job.required_arm
    whole = [str(job.directory.root.absolute()), job.run.metadata.name, arm.name, job.run.spec.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
