"""The endpoint of a training process."""

import json
import urllib.error
import urllib.request

import pytest

from unisd.metrics.progress import Progress
from unisd.metrics.prometheus import MetricsServer
from unisd.rundir import read_json


def test_metrics_and_progress_are_one_source(tmp_path):
    progress = Progress(tmp_path / "progress.json")
    server = MetricsServer(progress, "star-1")
    server.start(tmp_path / "endpoint.json")
    try:
        base = f"http://127.0.0.1:{read_json(tmp_path / 'endpoint.json')['port']}"
        assert json.load(urllib.request.urlopen(f"{base}/progress")) == {}
        progress.update(3, 12, {"loss": 0.5, "entropy": 1.25})
        told = json.load(urllib.request.urlopen(f"{base}/progress"))
        assert (told["step"], told["totalSteps"], told["progressPercentage"]) == (3, 12, 25)
        assert told == read_json(tmp_path / "progress.json")
        text = urllib.request.urlopen(f"{base}/metrics").read().decode()
        assert 'unisd_train_loss{component="star-1"} 0.5' in text
        assert 'unisd_train_step{component="star-1"} 3.0' in text
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{base}/other")
    finally:
        server.stop()


def test_remaining_time_is_extrapolated(tmp_path):
    progress = Progress()
    progress.update(0, 10)
    assert progress.snapshot["estimatedRemainingSeconds"] is None
    progress.update(5, 10)
    assert progress.snapshot["estimatedRemainingSeconds"] >= 0
