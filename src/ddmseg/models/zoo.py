"""Models by name: the weights that ship in the package, or a file of one's own."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.errors import CheckpointError, UsageError, did_you_mean
from ddmseg.imaging.source_file import file_sha256

if TYPE_CHECKING:
    from ddmseg.models.card import Card

DEFAULT_MODEL = "anatomy"
SUFFIX = ".safetensors"


def weights_folder() -> Path:
    """Return the folder of the weights that ship in the package."""
    return Path(str(resources.files("ddmseg.models"))) / "weights"


def model_names() -> list[str]:
    """Return the names of the models that ship in the package, the default first."""
    names = [path.stem for path in weights_folder().glob(f"*{SUFFIX}")]
    return sorted(names, key=lambda name: (name != DEFAULT_MODEL, name))


def model_path(name: str) -> Path:
    """Return the weights file of a model.

    Args:
        name: of a shipped model, or the path of a ``.safetensors`` file that has
            its card, a ``.json`` file of the same name, beside it.

    Raises:
        UsageError: when no model is called so.
        CheckpointError: when the path leads to no file.
    """
    if name.endswith(SUFFIX):
        path = Path(os.path.expanduser(name))
        if not path.is_file():
            raise CheckpointError(f"{path}: no such weights file; check the path")
        return path
    names = model_names()
    if name in names:
        return weights_folder() / f"{name}{SUFFIX}"
    allowed = f"allowed are {', '.join(names)}" if names else "no model came with this installation"
    raise UsageError(
        f"model: got '{name}'{did_you_mean(name, names)}; {allowed}, "
        f"or the path of a {SUFFIX} file with its card beside it"
    )


def shipped_cards() -> list[Card]:
    """Return the cards of all shipped models, as :func:`model_names` has them."""
    from ddmseg.models.card import read_card

    folder = weights_folder()
    return [read_card(folder / f"{name}.json") for name in model_names()]


def is_intact(path: Path) -> bool:
    """Return whether a weights file has the checksum that its card gives."""
    from ddmseg.models.card import read_card

    card = read_card(path.with_suffix(".json"))
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest == card.checksum
