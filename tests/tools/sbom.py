"""Writes a software bill of materials of this environment, from what is installed: CycloneDX 1.6, JSON.

python tests/tools/sbom.py [--out sbom.json]
"""

from __future__ import annotations

import argparse
import json
import os
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_OURS = "equipoise"


def bill(found: Iterable[Distribution]) -> dict[str, Any]:
    """The document: this package, every other distribution as a component, and who requires whom."""
    parts = {_key(part): part for part in found}
    if _OURS not in parts:
        raise ValueError("`equipoise` should be installed to be described. Found it is not: pip install -e .")
    names = {name: _purl(name, part) for name, part in sorted(parts.items())}
    written = datetime.fromtimestamp(
        int(os.environ.get("SOURCE_DATE_EPOCH", datetime.now(UTC).timestamp())), UTC
    )
    content = [_component(name, part, names[name]) for name, part in sorted(parts.items()) if name != _OURS]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))}",
        "version": 1,
        "metadata": {
            "timestamp": written.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": _component(_OURS, parts[_OURS], names[_OURS]),
        },
        "components": content,
        "dependencies": [
            {"ref": names[name], "dependsOn": _required(part, names)} for name, part in sorted(parts.items())
        ],
    }


def _purl(name: str, part: Distribution) -> str:
    return f"pkg:pypi/{name}@{part.version.replace('+', '%2B')}"


def _component(name: str, part: Distribution, purl: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": part.version,
        "purl": purl,
    }
    licence = _licence(part)
    if licence:
        found |= {"licenses": [licence]}
    if _stated(part, "Summary"):
        found |= {"description": _stated(part, "Summary")}
    return found


def _licence(part: Distribution) -> dict[str, Any] | None:
    """As the distribution states it: an SPDX expression, else its trove classifiers, else its first line of text."""
    if _stated(part, "License-Expression"):
        return {"expression": _stated(part, "License-Expression")}
    classes = [text for text in _about(part).get_all("Classifier") or [] if text.startswith("License ::")]
    said = " / ".join(text.rpartition(" :: ")[2] for text in classes) or _stated(part, "License").strip()
    return {"license": {"name": said.partition("\n")[0][:200]}} if said else None


def _stated(part: Distribution, field: str) -> str:
    return next(iter(_about(part).get_all(field) or []), "")


@cache
def _about(part: Distribution) -> PackageMetadata:
    """Its metadata, which `Distribution` reads and parses anew each time."""
    return part.metadata


def _required(part: Distribution, names: dict[str, str]) -> list[str]:
    wanted = [Requirement(text) for text in part.requires or []]
    there = {
        canonicalize_name(item.name)
        for item in wanted
        if item.marker is None
        or any(item.marker.evaluate({"extra": extra}) for extra in ("", *_extras(part)))
    }
    return sorted(names[name] for name in there if name in names and names[name] != _purl(_key(part), part))


def _extras(part: Distribution) -> list[str]:
    return _about(part).get_all("Provides-Extra") or [] if _key(part) == _OURS else []


def _key(part: Distribution) -> str:
    return str(canonicalize_name(_about(part)["Name"]))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("sbom.json"))
    out = parser.parse_args().out
    document = bill(distributions())
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{out}: {len(document['components'])} components")


if __name__ == "__main__":
    main()
