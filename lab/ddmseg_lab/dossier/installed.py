"""Which packages ddmseg runs with here, from the metadata of what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ddmseg.errors import UsageError

NAME = "ddmseg"
NOT_RUNTIME = frozenset({"dev"})
"""Extras of those who work on ddmseg, not with it."""
Need = tuple[str, frozenset[str]]
"""Name of a package, and the extras of it that are asked for."""
_LONGEST_LICENCE = 64


@dataclass(frozen=True)
class Package:
    """One installed package.

    Attributes:
        name: normalised, as package indexes write it.
        version: installed.
        licence: as its metadata say, "" when they do not.
        spdx: whether that is an SPDX expression.
        needs: names of the packages it needs, and has, here.
        optional: whether only an extra of ddmseg needs it.
    """

    name: str
    version: str
    licence: str
    spdx: bool
    needs: tuple[str, ...]
    optional: bool


def installed_packages() -> tuple[tuple[str, ...], list[Package]]:
    """Return what ddmseg itself needs, and all packages that follow from it, by name.

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
    every_need = core | _needs(own, frozenset(extras))
    required, every = _closure(core), _closure(every_need)
    packages = [
        _package(distribution, every, optional=name not in required)
        for name, distribution in sorted(every.items())
    ]
    return tuple(sorted(name for name, _ in every_need if name in every)), packages


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
        (normalised(requirement.name), frozenset(requirement.extras))
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


def normalised(name: str) -> str:
    """Return a package's name as indexes compare it.

    >>> normalised("Jinja2.Ext_x")
    'jinja2-ext-x'
    """
    return str(canonicalize_name(name))


def _package(
    distribution: metadata.Distribution,
    installed: Mapping[str, metadata.Distribution],
    *,
    optional: bool,
) -> Package:
    licence, spdx = _licence(distribution)
    needs = {name for name, _ in _needs(distribution, frozenset()) if name in installed}
    name = normalised(distribution.metadata["Name"])
    return Package(name, distribution.version, licence, spdx, tuple(sorted(needs)), optional)


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
