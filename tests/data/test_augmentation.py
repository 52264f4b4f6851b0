import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF

from adapruner_det.data.augmentation import Augmentation, crop, cutout


@pytest.fixture
def images():
    return torch.randint(1, 256, (6, 8, 10, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def numbers(count):
    return torch.rand((count, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_crop_is_torchvisions(images):
    top, left = torch.tensor([0, 4, 2, 1, 3, 2]), torch.tensor([4, 0, 2, 3, 1, 2])
    flipped = torch.tensor([True, False, True, False, True, False])
    result = crop(images, 2, top, left, flipped)
    assert result.dtype == torch.uint8
    for i, image in enumerate(images.permute(0, 3, 1, 2)):
        expected = TF.crop(TF.pad(image, 2), int(top[i]), int(left[i]), 8, 10)
        expected = TF.hflip(expected) if flipped[i] else expected
        assert torch.equal(result[i].permute(2, 0, 1), expected), i


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_blanks_a_clipped_square(images, side):
    y, x = torch.tensor([0, 7, 3, 4, 0, 5]), torch.tensor([0, 9, 5, 2, 9, 0])
    result = cutout(images, side, y, x, torch.tensor([7.0, 8.0, 9.0]))
    for i, image in enumerate(images.numpy()):
        expected = image.copy()
        rows = slice(max(0, int(y[i]) - side // 2), int(y[i]) - side // 2 + side)
        columns = slice(max(0, int(x[i]) - side // 2), int(x[i]) - side // 2 + side)
        expected[rows, columns] = (7, 8, 9)
        assert np.array_equal(result[i].numpy(), expected), i


def test_every_offset_flip_and_centre_occurs():
    width = 5
    images = torch.arange(1, width + 1, dtype=torch.uint8).expand(4000, 1, width)
    images = images[..., None].expand(-1, -1, -1, 3)
    result = Augmentation(padding=1, flip=True)(images, numbers(4000), torch.zeros(3))[:, 0, :, 0]
    rows, times = result.unique(dim=0, return_counts=True)
    by_row = dict(zip(map(tuple, rows.tolist()), times.tolist()))
    shown = [(0, 1, 2, 3, 4), (1, 2, 3, 4, 5), (2, 3, 4, 5, 0)]
    shown += [row[::-1] for row in shown]
    assert by_row.keys() == {*shown, (0,) * width}  # the last: the row lies outside of the crop
    assert by_row[(0,) * width] == pytest.approx(4000 * 2 / 3, rel=0.1)
    assert all(by_row[row] == pytest.approx(4000 / 18, rel=0.3) for row in shown)

    unflipped = Augmentation(padding=1)(images, numbers(4000), torch.zeros(3))[:, 0, :, 0]
    assert {tuple(row) for row in unflipped.tolist()} == {*shown[:3], (0,) * width}
    blanked = Augmentation(cutout=1)(images, numbers(4000), torch.zeros(3))[:, 0, :, 0] == 0
    assert blanked.sum(1).eq(1).all()
    assert all(share == pytest.approx(1 / width, abs=0.03) for share in blanked.float().mean(0).tolist())


def test_no_augmentation_leaves_images_alone(images):
    assert torch.equal(Augmentation()(images, numbers(6), torch.zeros(3)), images)
