"""Weights drawn at random, with a card that says which scans they are for."""

from __future__ import annotations

from pathlib import Path

from ddmseg.models.card import HEAD_KINDS
from ddmseg.models.checkpoint import Card, save_weights
from ddmseg.models.settings import DataSettings, ModelSettings, SamplingSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from toys import tiny_model

SIZES = {"widths": (4, 8, 8), "embedding": 2, "mask_width": 4, "denoiser_width": 4}
BLOCKS = {"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2}
"""What a model of whole heads is made of, too."""
CROPS = DataSettings(kind="hippocampus", patch=(16, 24, 16), spacing_mm=1.0)
SLICES = DataSettings(kind="ibsr18", patch=(16, 24), fold="fold-1")


def save_tiny(
    folder: Path, data: DataSettings, labels: tuple[int, ...], *, name: str = "tiny"
) -> Path:
    """Write weights and card; return the path of the weights."""
    dims = len(data.patch)
    sizes = SIZES | (BLOCKS if data.kind in HEAD_KINDS else {})
    settings = Settings(
        name=name,
        model=ModelSettings(dims=dims, **sizes),
        data=data,
        sampling=SamplingSettings(steps=2, samples=2, coarse_share=0.25),
    )
    network = tiny_model(dims=dims, classes=len(labels), **sizes)
    path = folder / f"{name}.safetensors"
    save_weights(network, Card(name, labels, settings_to_dict(settings)), path)
    return path
