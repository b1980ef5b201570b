"""Write into the card of shipped weights what the model met in training.

    python -m ddmseg_lab.limits.training_range --model anatomy

The verdict calls out what lies outside (``ddmseg.quality.training_range``). ``anatomy``
learned from made-up images: its validation subjects are synthesised as whole heads, the way
scans reach it, and the development scans of MALC2012 put real ones beside them.
``hippocampus`` takes the features of its subjects of training and validation as they are; the
intensities also of augmented training examples, for a head is normalised in another way than
these crops. Examples that the model segments badly are left out: what it cannot do is no
reason to accept more of it. No test subject is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from ddmseg.datasets.hippocampus import HippocampusSource
from ddmseg.datasets.source import padded
from ddmseg.datasets.sources import make_source
from ddmseg.datasets.subject import Example
from ddmseg.imaging.synthesis.settings import SynthesisSettings
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.restoring import profile_of
from ddmseg.inference.scan_encoding import mean_features
from ddmseg.inference.segmenter import Segmenter, as_volume
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.settings import DataSettings, Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.limits import Limits
from ddmseg.quality.training_range import WIDENING, Profile, intensity_statistics, training_range
from ddmseg.randomness import seeded
from ddmseg.training.calibration import true_dice
from ddmseg_lab.scans import HEADS
from ddmseg_lab.study import ModelOptions, run_command, say

HEAD_MM = (160.0, 208.0, 160.0)
"""Size of a synthesised head: the whole brain with what surrounds it."""
ROUNDING_MM = 0.5  # slices of the thickest that were synthesised may measure so much more
SYNTHESISED = 60  # heads synthesised
AUGMENTED = 200  # augmented training crops
SEED = 7


def of_examples(
    model: DiscrepancyDiffusionSegmenter, card: Card, examples: Iterable[Example]
) -> Iterator[Profile]:
    """Yield what each normalised image (``c *grid``) looks like that the model copes with."""
    least = Limits.of(card).fails
    for image, truth in examples:
        encoding = model.encode(image[None])
        classes = encoding.coarse_logits.argmax(1)
        features = mean_features(encoding, classes)
        classes = classes[0]
        if (
            features is not None
            and float(true_dice(classes, truth, model.classes)[0].nanmean()) >= least
        ):
            yield Profile(intensity_statistics(card, image[0].numpy(), classes.numpy()), features)


def of_real_heads(arguments: ModelOptions) -> Iterator[Profile]:
    """Yield what each development scan of MALC2012 looks like."""
    segmenter = Segmenter.load(arguments.model, device="cpu")
    options = SegmentOptions(mode="fast")
    for case in HEADS.cases("validation", arguments.data):
        scan = as_volume(case.images[0])
        solved = segmenter.solve(segmenter.prepare(scan, options, lambda *_: None))
        yield profile_of(segmenter.card, solved)


def synthesised_heads(arguments: ModelOptions, data: DataSettings, multiple: int) -> list[Example]:
    """Synthesise whole heads of the validation subjects."""
    i, j, k = (round(mm / data.spacing_mm / multiple) * multiple for mm in HEAD_MM)
    source = make_source(replace(data, patch=(i, j, k)), arguments.data)
    return source.validation_examples(arguments.cases or SYNTHESISED)


def of_real_crops(
    arguments: ModelOptions, model: DiscrepancyDiffusionSegmenter, card: Card, data: DataSettings
) -> tuple[list[Profile], float]:
    """Return what crops look like, and the longest voxel edge; augmented ones lack features."""
    source = HippocampusSource(data, arguments.data)
    splits = [source.subjects(name, arguments.cases) for name in ("train", "validation")]
    subjects = [subject for split in splits for subject in split]
    profiles = list(of_examples(model, card, (padded(s.image, s.labels) for s in subjects)))
    for number in range(AUGMENTED):
        image, truth = source.training_example(seeded(SEED, number))
        seen = intensity_statistics(card, image[0].numpy(), truth.numpy())
        profiles.append(Profile(seen, None))
    return profiles, max(max(subject.spacing_mm) for subject in subjects)


@torch.inference_mode()
def run(arguments: ModelOptions) -> None:
    """Measure, and write the card."""
    path = model_path(arguments.model)
    model, card = load_weights(path)
    data = settings_from_dict(Settings, card.settings).data
    if data.kind == "label_maps":
        profiles = [
            *of_examples(model, card, synthesised_heads(arguments, data, model.multiple)),
            *of_real_heads(arguments),
        ]
        edge_mm = SynthesisSettings().slice_thickness_mm[1] + ROUNDING_MM
    else:
        profiles, edge_mm = of_real_crops(arguments, model, card, data)
        edge_mm *= 1 + WIDENING
    told = training_range(profiles, thickest_mm=round(edge_mm, 2))
    calibration = {**card.calibration, "training_range": told}
    save_weights(model, replace(card, calibration=calibration), path)
    say(
        f"{card.name}: {told['examples']} examples, voxels to {told['thickest_mm']:g} mm, "
        f"features within {told['features']['largest_distance']:.2f}; {told['intensities']}"
    )


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
