"""The code, the models and the page on them name the same rules."""

from __future__ import annotations

import re
from pathlib import Path

from tests.model.check import configurations
from tests.model.tlc import HERE

ROOT = HERE.parent.parent
CODE = [p for p in sorted((ROOT / "tiercache" / "_core").rglob("*")) if p.suffix in (".py", ".lua")]
MODULES = sorted(HERE.glob("*.tla"))
PAGES = sorted((ROOT / "docs" / "explanation").glob("model*.md"))


def named_in(path: Path) -> set[str]:
    """The operators of a model that *path* names in its comments, as in "(model: Prove)"."""
    found = re.findall(r"model: (\w+(?:, \w+)*)\)", path.read_text("utf-8"))
    return {name for names in found for name in names.split(", ")}


def defined_in(path: Path) -> set[str]:
    return set(re.findall(r"^(\w+)(?:\([^)]*\))? ==", path.read_text("utf-8"), re.MULTILINE))


def rules() -> set[str]:
    """Every rule that a model can switch off."""
    return {rule for path in MODULES for rule in re.findall(r'On\("(\w+)"\)', path.read_text("utf-8"))}


def switched_off() -> set[str]:
    return {rule for c in configurations() for rule in re.findall(r'"(\w+)"', c.constants["Off"])}


def test_what_the_code_names_is_in_a_model() -> None:
    defined = set().union(*map(defined_in, MODULES))
    missing = {f"{path.name}: {name}" for path in CODE for name in named_in(path) - defined}

    assert missing == set()
    assert {name for path in CODE for name in named_in(path)} >= {"Prove", "Insert", "MayTake", "Judge"}


def test_every_rule_of_a_model_is_switched_off_in_a_configuration() -> None:
    assert rules() == switched_off()


def test_every_rule_is_in_a_table_of_the_docs() -> None:
    rows = [row for page in PAGES for row in page.read_text("utf-8").splitlines() if row.startswith("|")]
    told = {rule for row in rows for rule in re.findall(r"`(\w+)`", row)}

    assert rules() - told == set()
