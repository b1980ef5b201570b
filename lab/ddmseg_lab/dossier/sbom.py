"""The software bill of materials: a CycloneDX document of what is installed and shipped.

Source: CycloneDX 1.6, ECMA-424; package URLs as of github.com/package-url/purl-spec.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib import metadata, resources
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ddmseg import __version__
from ddmseg.errors import OutputError, UsageError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.models import zoo
from ddmseg.models.checkpoint import Card
from ddmseg_lab.dossier.documents import NOTICE
from ddmseg_lab.dossier.figures import shipped_table

NAME = "ddmseg"
LICENCE = "Apache-2.0"
"""Of ddmseg's own code."""
NOT_RUNTIME = frozenset({"dev"})
"""Extras of those who work on ddmseg, not with it."""
Need = tuple[str, frozenset[str]]
"""Name of a package, and the extras of it that are asked for."""
_LONGEST_LICENCE = 64


def sbom_json(cards: Sequence[Card], *, made: datetime) -> str:
    """Return the bill of materials of this installation, made now, as CycloneDX 1.6 JSON."""
    core, wanted = _own_needs()
    installed, required = _closure(wanted), _closure(core)
    libraries = [
        _library(name, one, "required" if name in required else "optional")
        for name, one in installed.items()
    ]
    shipped = [*map(_weights, cards), *_bundled()]
    needs = {_ref(name): _needs(one, ()) for name, one in installed.items()} | {NAME: wanted}
    known = {ref: {_ref(n) for n, _ in on if n in installed} for ref, on in needs.items()}
    known[NAME] |= {one["bom-ref"] for one in shipped}
    root = _component(
        NAME, "application", LICENCE, name=NAME, version=__version__, description=NOTICE,
        purl=_purl(NAME, __version__),
    )  # fmt: skip
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid4().urn,
        "version": 1,
        "metadata": {
            "timestamp": made.isoformat(),
            "component": root,
            "properties": [{"name": "ddmseg:use", "value": NOTICE}],
        },
        "components": sorted(libraries + shipped, key=itemgetter("bom-ref")),
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in known.items()],
    }
    return json.dumps(bom, indent=1) + "\n"


def _own_needs() -> tuple[set[Need], set[Need]]:
    """Return what ddmseg itself needs, without its extras and with them."""
    try:
        own = metadata.distribution(NAME)
    except metadata.PackageNotFoundError as error:
        raise UsageError(
            f"{NAME}: runs from a source folder and is not installed, so what it needs is not "
            "known; install it with pip install ."
        ) from error
    extras = {*(own.metadata.get_all("Provides-Extra") or ())} - NOT_RUNTIME
    return _needs(own, ()), _needs(own, extras)


def _closure(needs: Iterable[Need]) -> dict[str, metadata.Distribution]:
    """Return what is installed of these packages, and of what follows from them."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[Need] = set()
    rest = list(needs)
    while rest:
        need = rest.pop()
        name, extras = need
        if need in seen or name == NAME:
            continue
        seen.add(need)
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that was not asked for
        rest += _needs(found[name], extras)
    return found


def _needs(distribution: metadata.Distribution, extras: Iterable[str]) -> set[Need]:
    """Return what a package needs on this system, with these extras of it."""
    return {
        (str(canonicalize_name(requirement.name)), frozenset(requirement.extras))
        for requirement in _requirements(distribution)
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    }


def _requirements(distribution: metadata.Distribution) -> Iterator[Requirement]:
    for text in distribution.requires or []:
        try:
            yield Requirement(text)
        except InvalidRequirement:
            continue  # written by an older tool; pip would not have followed it either


def _licence(distribution: metadata.Distribution) -> tuple[str, bool]:
    """Return the licence as the metadata tell it, and whether it is an SPDX expression."""

    def told(field: str) -> list[str]:
        return [str(value).strip() for value in distribution.metadata.get_all(field) or []]

    for expression in told("License-Expression"):
        return expression, True
    for short in told("License"):
        if short and "\n" not in short and len(short) <= _LONGEST_LICENCE:
            return short, False
    kinds = [kind for kind in told("Classifier") if kind.startswith("License :: ")]
    return "; ".join(kind.rpartition(" :: ")[2] for kind in kinds), False


def _component(
    ref: str, kind: str, licence: str, *, spdx: bool = True, **more: Any
) -> dict[str, Any]:
    """Return a part of the document, without what nobody told of it."""
    told = {"expression": licence} if spdx else {"license": {"name": licence}}
    one = {"type": kind, "bom-ref": ref, **more, "licenses": [told] if licence else None}
    return {name: value for name, value in one.items() if value}


def _library(name: str, distribution: metadata.Distribution, scope: str) -> dict[str, Any]:
    licence, spdx = _licence(distribution)
    version = distribution.version
    return _component(
        _ref(name), "library", licence, spdx=spdx, name=name, version=version, scope=scope,
        purl=_purl(name, version),
    )  # fmt: skip


def _weights(card: Card) -> dict[str, Any]:
    file = f"{card.name}{zoo.SUFFIX}"
    return _component(
        f"weights/{card.name}", "machine-learning-model", card.licence, name=f"weights/{file}",
        version=card.checksum[:12], description=card.data,
        hashes=_hashes(zoo.weights_folder() / file),
    )  # fmt: skip


def _bundled() -> Iterator[dict[str, Any]]:
    package = Path(str(resources.files("ddmseg")))
    for row in shipped_table("bundled")["file"]:
        yield _component(
            row["file"], "library" if "purl" in row else "data", row["licence"],
            spdx=row["spdx"], name=row["name"], version=row.get("version"), purl=row.get("purl"),
            description=row["what"], hashes=_hashes(package / row["file"]),
        )  # fmt: skip


def _hashes(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise OutputError(f"{path}: belongs to ddmseg but is gone; install ddmseg again")
    return [{"alg": "SHA-256", "content": file_sha256(path)}]


def _ref(name: str) -> str:
    return f"pypi/{name}"


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{quote(version)}"
