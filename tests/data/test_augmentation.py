import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF

from adapruner_det.data.augmentation import Augmentation, RandomNumbers, crop, cutout


def _images(number=6, height=8, width=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (number, height, width, 3), generator=generator, dtype=torch.uint8)


def test_random_numbers_depend_on_seed_and_draw_alone():
    draws = torch.arange(1000, 1064)
    together = RandomNumbers(3).of(draws)
    assert together.shape == (64, 8)
    assert 0 <= together.min() and together.max() < 1
    assert torch.equal(RandomNumbers(3).of(draws[1::2]), together[1::2])
    assert torch.equal(RandomNumbers(3).of(draws[[40, 7, 7]]), together[[40, 7, 7]])
    assert torch.equal(torch.cat([RandomNumbers(3).of(d[None]) for d in draws]), together)
    assert together.unique().numel() == together.numel()
    assert not torch.equal(RandomNumbers(4).of(draws), together)


def test_random_numbers_are_uniform():
    numbers = RandomNumbers(0).of(torch.arange(4000))
    assert torch.allclose(numbers.mean(0), torch.full((8,), 0.5).double(), atol=0.02)
    assert torch.allclose(numbers.var(0), torch.full((8,), 1 / 12).double(), atol=0.005)


def test_crop_is_torchvisions():
    images = _images()
    top, left = torch.tensor([0, 4, 2, 1, 3, 2]), torch.tensor([4, 0, 2, 3, 1, 2])
    flipped = torch.tensor([True, False, True, False, True, False])
    result = crop(images, 2, top, left, flipped)
    assert result.dtype == torch.uint8
    for i, image in enumerate(images.permute(0, 3, 1, 2)):
        expected = TF.crop(TF.pad(image, 2), int(top[i]), int(left[i]), 8, 10)
        expected = TF.hflip(expected) if flipped[i] else expected
        assert torch.equal(result[i].permute(2, 0, 1), expected), i


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_blanks_a_clipped_square(side):
    images = _images()
    y, x = torch.tensor([0, 7, 3, 4, 0, 5]), torch.tensor([0, 9, 5, 2, 9, 0])
    fill = torch.tensor([7.0, 8.0, 9.0])
    result = cutout(images, side, y, x, fill)
    for i, image in enumerate(images.numpy()):
        expected = image.copy()
        rows = slice(max(0, int(y[i]) - side // 2), int(y[i]) - side // 2 + side)
        columns = slice(max(0, int(x[i]) - side // 2), int(x[i]) - side // 2 + side)
        expected[rows, columns] = (7, 8, 9)
        assert np.array_equal(result[i].numpy(), expected), i
    assert images.min() > 0  # the images handed in are untouched


def test_every_offset_flip_and_centre_occurs():
    width = 5
    images = torch.arange(1, width + 1, dtype=torch.uint8).expand(4000, 1, width)
    images = images[..., None].expand(-1, -1, -1, 3)
    numbers = RandomNumbers(0).of(torch.arange(4000))
    result = Augmentation(padding=1, flip=True)(images, numbers, torch.zeros(3))[:, 0, :, 0]
    by_row = {tuple(row): 0 for row in result.tolist()}
    for row in result.tolist():
        by_row[tuple(row)] += 1
    shown = [(0, 1, 2, 3, 4), (1, 2, 3, 4, 5), (2, 3, 4, 5, 0)]
    shown += [row[::-1] for row in shown]
    assert by_row.keys() == {*shown, (0,) * width}  # the last: the row lies outside of the crop
    assert by_row[(0,) * width] == pytest.approx(4000 * 2 / 3, rel=0.1)
    assert all(by_row[row] == pytest.approx(4000 / 18, rel=0.3) for row in shown)

    blanked = Augmentation(cutout=1)(images, numbers, torch.zeros(3))[:, 0, :, 0] == 0
    assert blanked.sum(1).eq(1).all()
    assert all(share == pytest.approx(1 / width, abs=0.03) for share in blanked.float().mean(0).tolist())


def test_without_flip_nothing_is_mirrored():
    images = torch.arange(1, 6, dtype=torch.uint8)[None, None, :, None].expand(500, 1, 5, 3)
    numbers = RandomNumbers(0).of(torch.arange(500))
    result = Augmentation(padding=1)(images, numbers, torch.zeros(3))[:, 0, :, 0].long()
    visible = result[result.sum(1) > 0]
    assert (visible[:, 2] < visible[:, 3]).all()


def test_no_augmentation_leaves_images_alone():
    images = _images()
    numbers = RandomNumbers(0).of(torch.arange(6))
    assert torch.equal(Augmentation()(images, numbers, torch.zeros(3)), images)
