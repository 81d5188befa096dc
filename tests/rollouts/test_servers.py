"""The client that a stage's environment leads to."""

import socket

import pytest

from unisd.failures import StageError
from unisd.rollouts.servers import addresses, servers


@pytest.mark.parametrize(("service", "key"), [("", "k"), ("host", "k"), ("host:port", "k"), ("host:8000", "")])
def test_an_environment_without_servers_is_told(monkeypatch, service, key):
    monkeypatch.setenv("UNISD_ROLLOUT_SERVICE", service)
    monkeypatch.setenv("UNISD_API_KEY", key)
    with pytest.raises(StageError, match=r"spec.rollout.engine.*UNISD_ROLLOUT_SERVICE \(host:port\)"):
        servers(frozenset({1}))


def test_every_address_of_the_name_is_a_server(monkeypatch):
    def resolve(host, port, *_rest):
        assert (host, port) == ("star-policy", 8000)
        return [(0, 0, 0, "", (address, port)) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert addresses("star-policy", 8000) == ["http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://[fd00::1]:8000"]


def test_a_name_that_is_not_known_yet_has_none(monkeypatch):
    def unknown(*_arguments):
        raise socket.gaierror("not yet")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert addresses("star-policy", 8000) == []
