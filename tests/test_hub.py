"""Errors of downloads: which the next attempt may not meet any more."""

import os
import subprocess
import sys

import pytest
from httpx2 import ConnectError, ReadTimeout, Request, Response
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from unisd.hub import may_be_back


def answered(status, kind=HfHubHTTPError):
    return kind("an answer", response=Response(status, request=Request("GET", "http://hub/a/b")))


def wrapped(error):
    """As a library says it of one below it."""
    try:
        raise LocalEntryNotFoundError("not here either") from error
    except LocalEntryNotFoundError as found:
        return found


@pytest.mark.parametrize(
    "error",
    [
        ConnectError("no such host"),
        ReadTimeout("slow"),
        ConnectionError("Couldn't reach it"),
        answered(503),
        answered(429),
        wrapped(ConnectError("refused")),
        wrapped(answered(500)),
    ],
)
def test_networks_and_hubs_may_be_back(error):
    assert may_be_back(error)


@pytest.mark.parametrize(
    "error",
    [
        answered(404, RepositoryNotFoundError),
        answered(401, GatedRepoError),
        wrapped(answered(404)),
        OfflineModeIsEnabled("HF_HUB_OFFLINE"),
        wrapped(OfflineModeIsEnabled("HF_HUB_OFFLINE")),
        FileNotFoundError("no such folder"),
        ValueError("no repository's name"),
    ],
)
def test_what_was_asked_for_stays_as_it_is(error):
    assert not may_be_back(error)


ASK = """
from pathlib import Path
from unisd.config.model import Model
from unisd.failures import StageError
from unisd.models import resolve_model
from unisd.tasks.rows import load_rows
from unisd.tasks.types import HubDataset
for ask in (
    lambda: resolve_model(Model(name="lab/model"), Path("/nonexistent")),
    lambda: load_rows(None, HubDataset("lab/rows", "test"), "train", 0),
):
    try:
        ask()
    except StageError as error:
        print(error.reason, error)
"""


def test_a_hub_that_is_away_is_no_fault_of_the_manifest(tmp_path):
    """A stage that ends with NonZeroExit is tried again, one with BadInput is not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    model, rows = done.stdout.splitlines()
    assert model.startswith("NonZeroExit spec.model: lab/model is no path that is there, and cannot be downloaded")
    assert rows.startswith("NonZeroExit spec.task.source: lab/rows cannot be loaded (ConnectError): check the network")
