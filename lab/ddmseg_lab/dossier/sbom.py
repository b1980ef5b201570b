"""The software bill of materials: a CycloneDX document of what is installed and shipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ddmseg import __version__
from ddmseg.errors import OutputError, UsageError
from ddmseg.models import zoo
from ddmseg.models.checkpoint import Card
from ddmseg_lab.dossier.documents import NOTICE
from ddmseg_lab.dossier.figures import shipped_table
from ddmseg_lab.dossier.records import hash_of

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
    root = Component(
        name=NAME,
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        description=NOTICE,
        licenses=_licences(LICENCE, spdx=True),
        purl=PackageURL("pypi", None, NAME, __version__),
    )
    direct, installed, required = _installed()
    libraries = {n: _library(n, one, n not in required) for n, one in sorted(installed.items())}
    notice = Property(name="ddmseg:use", value=NOTICE)
    bom = Bom(metadata=BomMetaData(component=root, timestamp=made, properties=[notice]))
    shipped = [*(_weights(card) for card in cards), *_bundled()]
    for component in (*libraries.values(), *shipped):
        bom.components.add(component)
    bom.register_dependency(root, [*(libraries[name] for name in direct), *shipped])
    for name, one in sorted(installed.items()):
        needs = {need for need, _ in _needs(one, frozenset())} & set(libraries)
        bom.register_dependency(libraries[name], [libraries[need] for need in sorted(needs)])
    writer = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return writer.output_as_string(indent=1) + "\n"


def _installed() -> tuple[list[str], Mapping[str, metadata.Distribution], set[str]]:
    """Return what ddmseg itself needs, all that follows from it, and what no extra brings.

    Extras count as far as their packages are installed.
    """
    try:
        own = metadata.distribution(NAME)
    except metadata.PackageNotFoundError as error:
        raise UsageError(
            f"{NAME}: runs from a source folder and is not installed, so what it needs is not "
            "known; install it with pip install ."
        ) from error
    extras = [e for e in own.metadata.get_all("Provides-Extra") or [] if e not in NOT_RUNTIME]
    core = _needs(own, frozenset())
    wanted = core | _needs(own, frozenset(extras))
    every = _closure(wanted)
    return sorted(name for name, _ in wanted if name in every), every, set(_closure(core))


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


def _needs(distribution: metadata.Distribution, extras: frozenset[str]) -> set[Need]:
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


def _library(name: str, distribution: metadata.Distribution, optional: bool) -> Component:
    licence, spdx = _licence(distribution)
    return Component(
        name=name,
        version=distribution.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pypi/{name}",
        scope=ComponentScope.OPTIONAL if optional else ComponentScope.REQUIRED,
        licenses=_licences(licence, spdx=spdx),
        purl=PackageURL("pypi", None, name, distribution.version),
    )


def _weights(card: Card) -> Component:
    return Component(
        name=f"weights/{card.name}{zoo.SUFFIX}",
        version=card.checksum[:12],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"weights/{card.name}",
        description=card.data,
        hashes=_hash(zoo.weights_folder() / f"{card.name}{zoo.SUFFIX}"),
        licenses=_licences(card.licence, spdx=True),
    )


def _bundled() -> Iterator[Component]:
    package = Path(str(resources.files("ddmseg")))
    for row in shipped_table("bundled")["file"]:
        purl = row.get("purl")
        yield Component(
            name=row["name"],
            version=row.get("version"),
            type=ComponentType.LIBRARY if purl else ComponentType.DATA,
            bom_ref=row["file"],
            description=row["what"],
            hashes=_hash(package / row["file"]),
            licenses=_licences(row["licence"], spdx=row["spdx"]),
            purl=PackageURL.from_string(purl) if purl else None,
        )


def _hash(path: Path) -> list[Any]:
    if not path.is_file():
        raise OutputError(f"{path}: belongs to ddmseg but is gone; install ddmseg again")
    return [HashType(alg=HashAlgorithm.SHA_256, content=hash_of(path))]


def _licences(told: str, *, spdx: bool) -> list[Any]:
    """Return a licence as CycloneDX wants it; none where nothing was told."""
    if not told:
        return []
    return [LicenseExpression(told) if spdx else DisjunctiveLicense(name=told)]
