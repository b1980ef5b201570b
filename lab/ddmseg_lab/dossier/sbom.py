"""The software bill of materials: a CycloneDX document of packages and shipped files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg import __version__
from ddmseg.errors import OutputError
from ddmseg.models import zoo
from ddmseg.models.checkpoint import Card
from ddmseg_lab.dossier.document import NOTICE
from ddmseg_lab.dossier.installed import NAME, Package, installed_packages
from ddmseg_lab.dossier.records import hash_of
from ddmseg_lab.dossier.shipped import shipped_table

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

LICENCE = "Apache-2.0"
"""Of ddmseg's own code."""


def sbom_json(cards: Sequence[Card], *, made: datetime) -> str:
    """Return the bill of materials of this installation as CycloneDX 1.6 JSON.

    Args:
        cards: of the shipped weights.
        made: now, with its time zone.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    direct, packages = installed_packages()
    root = _root()
    notice = Property(name="ddmseg:use", value=NOTICE)
    bom = Bom(metadata=BomMetaData(component=root, timestamp=made, properties=[notice]))
    libraries = {package.name: _library(package) for package in packages}
    shipped = [*(_weights(card) for card in cards), *_bundled()]
    for component in (*libraries.values(), *shipped):
        bom.components.add(component)
    bom.register_dependency(root, [*(libraries[name] for name in direct), *shipped])
    for package in packages:
        bom.register_dependency(libraries[package.name], [libraries[n] for n in package.needs])
    writer = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return writer.output_as_string(indent=1) + "\n"


def _root() -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        name=NAME,
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        description=NOTICE,
        licenses=_licences(LICENCE, spdx=True),
        purl=PackageURL("pypi", None, NAME, __version__),
    )


def _library(package: Package) -> Component:
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pypi/{package.name}",
        scope=ComponentScope.OPTIONAL if package.optional else ComponentScope.REQUIRED,
        licenses=_licences(package.licence, spdx=package.spdx),
        purl=PackageURL("pypi", None, package.name, package.version),
    )


def _weights(card: Card) -> Component:
    from cyclonedx.model.component import Component, ComponentType

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
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

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
    from cyclonedx.model import HashAlgorithm, HashType

    if not path.is_file():
        raise OutputError(f"{path}: belongs to ddmseg but is gone; install ddmseg again")
    return [HashType(alg=HashAlgorithm.SHA_256, content=hash_of(path))]


def _licences(told: str, *, spdx: bool) -> list[Any]:
    """Return a licence as CycloneDX wants it; none where nothing was told."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression

    if not told:
        return []
    return [LicenseExpression(told) if spdx else DisjunctiveLicense(name=told)]
