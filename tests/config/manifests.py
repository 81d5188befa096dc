"""Manifests as small as can be, to be changed by tests."""

from typing import Any

from tests.conftest import document


def manifest(*components: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A valid manifest of these components; keyword arguments replace blocks of the spec."""
    return document(
        {
            "model": {"name": "a/b"},
            "task": {"name": "cos_e"},
            "rollout": {"engine": "transformers"},
            "components": list(components) or [{"name": "star", "preset": "unisd_star"}],
            **spec,
        }
    )
