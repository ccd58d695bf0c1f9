"""What README says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fleetq_core.config import Config, variable_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    for name, field in Config.model_fields.items():
        assert f"`{variable_of(name)}`" in README, name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            row = next(
                line for line in README.splitlines() if line.startswith("|") and f"`{variable_of(name)}`" in line
            )
            assert f"{field.default:g}" in row.replace("262144", "262144") or str(field.default) in row, row


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    named = set(re.findall(r"`?(FLEET_Q_[A-Z_]+)`?", README))
    assert named <= {variable_of(name) for name in Config.model_fields}


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_entry_is_a_literal_that_streamlit_finds() -> None:
    assert re.search(r"^app = st\.App\(", (ROOT / "app.py").read_text(), re.MULTILINE)
