"""Where a package comes from, for machines: an in-toto statement of SLSA provenance, and a CycloneDX list of inputs.

Formats: https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1, https://cyclonedx.org (1.6). Neither tells a
time, so that the same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

STATEMENT, BOM = "provenance.json", "bom.cdx.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:ollamaq:publish:v1"

Release = Mapping[str, Any]


def subjects(release: Release) -> dict[str, str]:
    """SHA-256 of the files of a package, by name; ``release.json`` tells them, and so is none of them."""
    entries = [release.get(key) for key in ("gguf", "projector", "modelfile")]
    return {entry["file"]: entry["sha256"] for entry in entries if entry}


def statement(release: Release) -> dict[str, Any]:
    """What was made of what, with which settings, by which version."""
    said = ("name", "mix", "parameters", "chat_format", "base", "adapters")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects(release).items()],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {key: release[key] for key in said if key in release},
                "resolvedDependencies": [
                    {"name": name, "digest": {"sha256": digest}} for name, digest in release["inputs"].items()
                ],
            },
            "runDetails": {"builder": {"id": "urn:ollamaq", "version": dict(release["versions"])}},
        },
    }


def bill_of_materials(release: Release) -> dict[str, Any]:
    """The model, its licence, and the files it is made of."""
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": release["name"],
        "hashes": [_hash(release["gguf"]["sha256"])],
    }
    if license_ := release.get("license"):
        model["licenses"] = [{"license": {"name": license_}}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": model,
            "tools": {
                "components": [
                    {"type": "application", "name": name, "version": version}
                    for name, version in release["versions"].items()
                ]
            },
        },
        "components": list(_files(release)),
        "dependencies": [{"ref": "model", "dependsOn": [f"input:{name}" for name in release["inputs"]]}],
    }


def _files(release: Release) -> Iterator[dict[str, Any]]:
    for name, digest in release["inputs"].items():
        yield {"type": "file", "bom-ref": f"input:{name}", "name": name, "hashes": [_hash(digest)]}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def written(data: Mapping[str, Any]) -> str:
    """As the files have it."""
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"
