"""What a network is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.settings_reader import require, require_above_0, require_least

MOST_CHANNELS = 4096
MOST_BLOCKS = 64


@dataclass(frozen=True)
class ModelSettings:
    """The network; see ``networks.segmenter`` for what each size means.

    ``architecture`` other than ``ddm`` is one of the baselines, which take ``dims``,
    ``contrasts`` and ``widths`` alone.

    With ``normalisation`` by batch statistics, which ``encoder_form`` ``block`` always has, what
    is said of a voxel does not depend on what else is in view.
    """

    architecture: Literal["ddm", "unet", "attention_unet", "unetr"] = "ddm"
    dims: int = 3
    contrasts: int = 1
    encoder_form: Literal["voxel", "block"] = "voxel"
    widths: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 1
    level_blocks: tuple[int, ...] = ()
    fine_blocks: int = 0
    embedding: int = 8
    mask_width: int = 16
    denoiser_width: int = 16
    denoiser_form: Literal["full", "light"] = "full"
    mask_stride: int = 1
    input_scale: float = 1.0
    conditioning: Literal["discrepancy", "concat", "cross_attention", "none"] = "discrepancy"
    coarse_prior: bool = True
    target: Literal["clean", "noise"] = "clean"
    diffusion: bool = True
    normalisation: Literal["instance", "batch"] = "instance"

    def __post_init__(self) -> None:
        require(self.dims in (2, 3), self, "model.dims", "allowed are 2 and 3")
        for name in ("contrasts", "embedding", "mask_width", "denoiser_width"):
            require_least(1, self, f"model.{name}")
        require_least(0, self, "model.blocks", "model.fine_blocks")
        self._check_sizes()
        wide = len(self.widths) >= 3 and all(w > 0 for w in self.widths)
        require(wide, self, "model.widths", "give at least 3 numbers above 0")
        require(self.mask_stride in (1, 2), self, "model.mask_stride", "allowed are 1 and 2")
        self._check_diffusion()
        self._check_blocks()
        require_above_0(self, "model.input_scale")

    def _check_diffusion(self) -> None:
        clean = self.target == "clean" or self.mask_stride == 1
        told = "noise is predicted on the image grid alone; set model.mask_stride to 1"
        require(clean, self, "model.target", told)
        coarse = self.mask_stride == 2 and self.conditioning == "discrepancy"
        half = "it is for a mask on half the grid, conditioned by discrepancy"
        told = f"{half}; set model.mask_stride to 2"
        require(self.denoiser_form == "full" or coarse, self, "model.denoiser_form", told)
        told = f"model.architecture {self.architecture} has no diffusion; set it to false"
        require(self.architecture == "ddm" or not self.diffusion, self, "model.diffusion", told)
        even = self.conditioning != "cross_attention" or self.denoiser_width % 2 == 0
        told = "must be even for conditioning by cross_attention, which has four heads"
        require(even, self, "model.denoiser_width", told)

    def _check_blocks(self) -> None:
        block, counts = self.encoder_form == "block", self.level_blocks
        light = not self.diffusion or self.denoiser_form == "light"
        told = 'it is for a ddm; set model.denoiser_form to "light" and model.mask_stride to 2'
        fits = not block or (self.architecture == "ddm" and light)
        require(fits, self, "model.encoder_form", told)
        told = 'give one number for each of model.widths, with model.encoder_form "block"'
        fits = not counts or (block and len(counts) == len(self.widths))
        require(fits, self, "model.level_blocks", told)
        require(min(counts, default=1) >= 1, self, "model.level_blocks", "each must be at least 1")

    def _check_sizes(self) -> None:
        """Refuse a network that no machine holds: a slip of the hand, or a card made up."""
        sizes = ("contrasts", "embedding", "mask_width", "denoiser_width", "widths")
        depths = ("blocks", "fine_blocks", "level_blocks")
        for names, most in ((sizes, MOST_CHANNELS), (depths, MOST_BLOCKS)):
            for name in names:
                value = getattr(self, name)
                largest = max(value, default=0) if isinstance(value, tuple) else value
                require(largest <= most, self, f"model.{name}", f"must be at most {most}")
        require(len(self.widths) <= 8, self, "model.widths", "give at most 8 levels")
