"""The endpoint of a training process."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from unisd.files import read_json
from unisd.metrics.progress import Progress
from unisd.metrics.prometheus import MetricsServer, served


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


def test_checkpoint_and_policy_are_told(tmp_path):
    progress = Progress(tmp_path / "progress.json")
    progress.checkpointed(2, tmp_path / "checkpoint-2")
    assert progress.snapshot == {}
    progress.policy = (3, 1)
    progress.update(3, 12, {"loss": 0.5})
    assert progress.snapshot["checkpoint"]["step"] == 2
    progress.checkpointed(3, tmp_path / "checkpoint-3")
    told = read_json(tmp_path / "progress.json")
    assert (told["step"], told["checkpoint"]["path"]) == (3, str(tmp_path / "checkpoint-3"))
    server = MetricsServer(progress, "star-1")
    server.start()
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics").read().decode()
    finally:
        server.stop()
    for name, value in {"checkpoint_step": 3, "policy_version": 3, "rollout_policy_version": 1, "step": 3}.items():
        assert f'unisd_train_{name}{{component="star-1"}} {value}.0' in text


def test_a_mute_client_keeps_nobody_from_asking(tmp_path):
    server = MetricsServer(Progress(), "star-1")
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port)):
            assert json.load(urllib.request.urlopen(f"http://127.0.0.1:{server.port}/progress", timeout=120)) == {}
    finally:
        server.stop()


def test_an_occupied_port_stops_nothing(monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        monkeypatch.setenv("UNISD_METRICS_PORT", str(occupied.getsockname()[1]))
        with served(Progress(), "star-1"):
            assert "nothing is served of star-1" in caplog.text
