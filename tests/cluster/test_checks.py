"""The checker says what the tools say whose code it runs."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.checks import argo_lua, flux_health, kstatus

pytestmark = pytest.mark.cluster  # needs the programs, though no control plane


def thing(generation: int = 1, observed: int = 1, **conditions: str) -> dict[str, Any]:
    """A custom resource; conditions by type."""
    return {
        "apiVersion": "example.org/v1",
        "kind": "Thing",
        "metadata": {"name": "t", "namespace": "n", "generation": generation},
        "status": {
            "observedGeneration": observed,
            "conditions": [{"type": kind, "status": status} for kind, status in conditions.items()],
        },
    }


def test_kstatus() -> None:
    objects = [thing(Ready="True"), thing(Reconciling="True"), thing(Stalled="True"), thing(generation=2, Ready="True")]
    assert [answer["status"] for answer in kstatus(objects)] == ["Current", "InProgress", "Failed", "InProgress"]


def test_lua_answers_as_a_table(tmp_path: Path) -> None:
    script = tmp_path / "health.lua"
    script.write_text("""
        local health = {status = "Progressing", message = "new"}
        for _, condition in ipairs(obj.status.conditions) do
          if condition.type == "Ready" and condition.status == "True" then health = {status = "Healthy"} end
        end
        return health
    """)
    assert argo_lua(script, [thing(), thing(Ready="True")]) == [
        {"status": "Progressing", "message": "new"},
        {"status": "Healthy"},
    ]


@pytest.mark.parametrize("closed", ["string.format('%d', 1)", "math.floor(1)", "os.execute('true')", "io.open('x')"])
def test_lua_has_no_more_libraries_than_in_argo_cd(tmp_path: Path, closed: str) -> None:
    script = tmp_path / "health.lua"
    script.write_text(f"local t = os.time(); {closed}; return {{status = 'Healthy'}}")
    with pytest.raises(ValueError, match=r"attempt to (index|call) a (nil|non-)"):
        argo_lua(script, [thing()])


def test_flux() -> None:
    answers = flux_health(
        [thing(Ready="True"), thing(Stalled="True"), thing(Other="True"), thing(generation=2, Ready="True")],
        current="status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
        failed="status.conditions.exists(c, c.type == 'Stalled' && c.status == 'True')",
    )
    assert [answer["status"] for answer in answers] == ["Current", "Failed", "InProgress", "InProgress"]


def test_an_expression_that_does_not_parse_is_refused() -> None:
    with pytest.raises(ValueError, match="failed to parse the expression Current"):
        flux_health([thing()], current="status.(")
