"""The last stage of a run with `outputs.hub`: every trained component goes to a repository of its own on a model hub.

The token is HF_TOKEN's, the hub HF_ENDPOINT's, as everywhere in Hugging Face's library. What has not changed since the
last push is not sent again. Decides nothing about what a component is: it takes the directory that training left.
"""

import logging
from pathlib import Path
from typing import Any

from unisd.config.cluster import HubOutput
from unisd.config.resolve import resolve
from unisd.failures import StageError
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.sealed import MANIFEST

logger = logging.getLogger(__name__)
_OURS = [MANIFEST, "probe.json"]
"""What says whether a directory is whole, to us alone."""


def push(job: Job) -> None:
    """Carries out the stage.

    Raises:
        StageError: BadInput, if the hub refuses the token; NonZeroExit, if it cannot be reached or fails: try again.
    """
    hub = job.spec.outputs.hub if job.spec.outputs else None
    assert hub is not None, "the stage exists for a hub alone"
    found = _trained(job)
    for number, (name, adapter) in enumerate(found.items(), start=1):
        _push(hub, repository_of(hub, name), adapter)
        job.progress.update(number, len(found))


def repository_of(hub: HubOutput, arm: str) -> str:
    """The repository of a component."""
    return f"{hub.repository}-{arm}"


def _trained(job: Job) -> dict[str, Path]:
    """Components that were trained to their end, with their directories."""
    directory: RunDir = job.directory
    places = {arm.name: directory.trained(arm.name) / "adapter" for arm in resolve(job.spec) if arm.trains}
    return {name: place for name, place in places.items() if place.is_dir()}


def _push(hub: HubOutput, repository: str, adapter: Path) -> None:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api: Any = HfApi()
    try:
        api.create_repo(repository, private=hub.private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=adapter, ignore_patterns=_OURS, commit_message="Trained by UniSD"
        )
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise _refused(repository, f"the hub answers {status}") from None
        raise _failed(repository, f"the hub answers {status}") from None
    except (HTTPError, OSError) as error:
        raise _failed(repository, f"the hub cannot be reached ({type(error).__name__})") from None
    logger.info("%s is pushed: %s", repository, commit)


def _failed(repository: str, why: str) -> StageError:
    return StageError("NonZeroExit", f"spec.outputs.hub: {repository} was not pushed: {why}; running it again goes on")


def _refused(repository: str, why: str) -> StageError:
    return StageError(
        "BadInput",
        f"spec.outputs.hub: {repository} was not pushed: {why}; name a token that may write there as "
        "outputs.hub.token.secretKeyRef (on one machine: HF_TOKEN). The trained weights are kept: `unisd fetch`",
    )
