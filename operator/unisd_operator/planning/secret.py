"""The API key of an attempt's rollout servers. Pure: the key follows from the operator's own, so nothing is stored."""

import base64
import hashlib
import hmac

from unisd_operator.api.names import Object
from unisd_operator.planning.metadata import Attempt, make

KEY = "api-key"


def api_key(secret: bytes, attempt: Attempt) -> str:
    """Key of the rollout servers of one attempt: HMAC-SHA256 over run, work and attempt, base64url."""
    message = "\0".join((attempt.run.uid, attempt.work, str(attempt.number))).encode()
    return base64.urlsafe_b64encode(hmac.digest(secret, message, hashlib.sha256)).decode().rstrip("=")


def secret(attempt: Attempt, key: bytes) -> Object:
    """The Secret that an attempt's pods read the key from."""
    value = base64.b64encode(api_key(key, attempt).encode()).decode()
    body = {"type": "Opaque", "immutable": True, "data": {KEY: value}}
    return make(attempt, "v1/Secret", attempt.name("rollout"), "rollout", body)


def reference(attempt: Attempt, name: str = "UNISD_API_KEY") -> Object:
    """The environment variable that carries the key into a pod."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": attempt.name("rollout"), "key": KEY}}}
