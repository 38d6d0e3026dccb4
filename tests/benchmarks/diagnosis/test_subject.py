from __future__ import annotations

import pytest
import torch
from helpers.cue_nets import CLASSES, SIDE, colour_net, cue_images, follower, subject_of
from torch import nn

from benchmarks.diagnosis.subject import HEAD, Subject
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


def test_a_look_splits_the_logit_over_the_image() -> None:
    subject, (images, _) = follower(), cue_images(6)
    look = subject.look(images.images, subject.levels)
    logits = subject.lap(subject.normalise(images.images))
    answers = logits.argmax(1)
    bias = torch.tensor([0.0, -2.0])[answers]
    torch.testing.assert_close(look.maps.sum((1, 2, 3)) + bias, logits.gather(1, answers[:, None])[:, 0])
    torch.testing.assert_close(look.probabilities, logits.softmax(1))
    torch.testing.assert_close(look.features, look.cells[HEAD].mean((2, 3)))


def test_explaining_a_class_gives_that_class_map() -> None:
    subject, (images, _) = follower(), cue_images(4)
    ones = torch.ones(4, dtype=torch.int64)
    look = subject.look(images.images, targets=ones)
    logits = subject.lap(subject.normalise(images.images))
    torch.testing.assert_close(look.maps.sum((1, 2, 3)) - 2.0, logits[:, 1])


def test_one_logit_is_two_classes_with_opposite_maps() -> None:
    network = colour_net(1.0, 2.0)
    linear = nn.Linear(3, 1)
    linear.weight.data, linear.bias.data = network[4].weight[1:].data, network[4].bias[1:].data  # type: ignore[union-attr, index]
    network[4] = linear  # type: ignore[index]
    subject, (images, _) = subject_of(network), cue_images(4)
    probabilities = subject.predict(images.images)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(probabilities, follower().predict(images.images))
    zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    first, second = (subject.look(images.images, targets=targets).maps for targets in (zeros, ones))
    torch.testing.assert_close(first, -second)


def test_bytes_and_floats_are_the_same_image() -> None:
    subject, (images, _) = follower(), cue_images(3)
    torch.testing.assert_close(
        subject.predict(images.images), subject.predict(torch.from_numpy(images.images).float() / 255)
    )


def test_names_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ContractError, match="2 classes"):
        Subject(colour_net(1.0, 1.0), ("a", "b", "c"), ((0.0,) * 3, (1.0,) * 3), image_size=SIDE)


def test_grids_cover_the_image() -> None:
    subject = follower()
    for level in subject.levels:
        grid = subject.grid_of(level, (SIDE, SIDE))
        assert all(0 < pitch <= SIDE for pitch in grid.pitch)
    assert subject.classes == CLASSES
