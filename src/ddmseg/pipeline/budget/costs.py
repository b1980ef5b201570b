"""Seconds of each kind of work: rates of a machine times sizes of a scan."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Size:
    """How large the work on one scan is, in voxels, each at least 0.

    Attributes:
        scan: of the scan as it came.
        tiles: that the encoder sees, those in several tiles counted again.
        grid: of the model grid, on which samples are drawn.
    """

    scan: int
    tiles: int
    grid: int


@dataclass(frozen=True)
class Draw:
    """Samples to draw, and the steps of each."""

    steps: int
    samples: int

    def __str__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        samples = "1 sample" if self.samples == 1 else f"{self.samples} samples"
        return f"{steps} x {samples}"


@dataclass(frozen=True)
class Costs:
    """Seconds of the work on one scan, each at least 0.

    Attributes:
        prepare: before the encoder: preparing, hashing; reading has happened.
        encode: the encoder and the coarse answer.
        finish: restoring, writing where it is part of the contract, and what a scan costs
            whatever its size.
        answer: once for each set of samples: preparing and assessing.
        sample: once for each sample: decoding and weighing.
        step: one step of one sample.
    """

    prepare: float
    encode: float
    finish: float
    answer: float
    sample: float
    step: float

    @property
    def fast(self) -> float:
        """Seconds of the coarse answer alone."""
        return self.prepare + self.encode + self.finish

    def of(self, draw: Draw) -> float:
        """Return the seconds that a set of samples adds."""
        return self.answer + draw.samples * (self.sample + draw.steps * self.step)

    def without_preparing(self) -> Costs:
        """What is still ahead of a prepared scan."""
        return replace(self, prepare=0.0)

    def without_encoding(self) -> Costs:
        """What is still ahead of an encoded scan."""
        return replace(self, prepare=0.0, encode=0.0)

    def __add__(self, other: Costs) -> Costs:
        """Both together, with the same draws for each."""
        return Costs(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, factor: float) -> Costs:
        """Return the costs of a machine that is so many times as slow."""
        return Costs(*(getattr(self, field.name) * factor for field in fields(self)))


@dataclass(frozen=True)
class Rates:
    """Seconds a voxel on one machine, with one model and one number of threads.

    Attributes:
        prepare: a voxel of the scan: reading, hashing, preparing.
        encode: a voxel of a tile: the encoder, and the coarse answer.
        restore: a voxel of the scan.
        write: a voxel of the scan.
        answer: a voxel of the model grid, once for each set of samples.
        sample: a voxel of the model grid, once for each sample.
        step: a voxel of the model grid, for each step of each sample.
        fixed: seconds a scan, whatever its size.
        probe: seconds of a small segmentation, which later tells how busy the machine is.
    """

    prepare: float
    encode: float
    restore: float
    write: float
    answer: float
    sample: float
    step: float
    fixed: float
    probe: float

    def costs(self, size: Size, *, writes: bool) -> Costs:
        """Return the seconds of one scan.

        Args:
            size: of the work.
            writes: whether writing the results counts.
        """
        return Costs(
            prepare=self.prepare * size.scan,
            encode=self.encode * size.tiles,
            finish=self.fixed + (self.restore + self.write * writes) * size.scan,
            answer=self.answer * size.grid,
            sample=self.sample * size.grid,
            step=self.step * size.grid,
        )
