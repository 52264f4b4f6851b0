import logging

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from torchvision.models import ResNet18_Weights

from adapruner_det.engine.classification_config import add_classification_config
from adapruner_det.modeling.image_classifier import build_network
from adapruner_det.modeling.per_image import return_per_image_losses


def _model(name="small_resnet", **options):
    cfg = get_cfg()
    add_classification_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "ImageClassifier"
    cfg.MODEL.CLASSIFIER.NAME = name
    for key, value in options.items():
        cfg.MODEL.CLASSIFIER[key] = value
    torch.manual_seed(0)
    return build_model(cfg)


def _batch(number=4, size=32, num_classes=10):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (number, 3, size, size), generator=generator, dtype=torch.uint8)
    return {"images": images, "labels": torch.arange(number) % num_classes}


@pytest.mark.parametrize("name, size", [("small_resnet", 28), ("small_resnet", 64), ("resnet50", 28)])
def test_losses_logits_and_features(name, size):
    model, batch = _model(name, NUM_CLASSES=7), _batch(4, size)
    loss = model(batch)["loss_cls"]
    assert loss.shape == () and loss.requires_grad and model.device == torch.device("cpu")
    model.eval()
    with torch.no_grad():
        features, logits = model.embed(batch), model(batch)
    assert features.shape == (4, model.head.in_features)
    assert logits.shape == (4, 7)
    assert torch.allclose(model.head(features), logits, atol=1e-5)


def test_per_image_losses_have_the_batchs_loss_as_mean():
    model, batch = _model(), _batch(8)
    mean = model(batch)["loss_cls"]
    return_per_image_losses(model)
    losses = model(batch)["loss_cls"]
    assert losses.shape == (8,)
    assert torch.allclose(losses.mean(), mean, atol=1e-6)
    model.head.weight.data.zero_()
    model.head.bias.data = torch.arange(10.0)
    expected = torch.logsumexp(torch.arange(10.0), 0) - batch["labels"]  # -log softmax, by hand
    assert torch.allclose(model(batch)["loss_cls"], expected, atol=1e-5)


def test_losses_and_logits_are_float32_under_autocast():
    model = _model()
    model.per_image_losses = True
    with torch.autocast("cpu", torch.bfloat16):
        assert model.embed(_batch()).dtype == torch.bfloat16
        assert model(_batch())["loss_cls"].dtype == torch.float32
        assert model.eval()(_batch()).dtype == torch.float32


@pytest.mark.parametrize("stem, side", [("cifar", 8), ("imagenet", 2)])
def test_stems(stem, side):
    network, maps = build_network("resnet18", stem)[0].eval(), []
    network.layer4.register_forward_hook(lambda module, args, out: maps.append(out))
    network(torch.zeros(1, 3, 64, 64))
    assert maps[0].shape[2:] == (side, side)


def test_torchvisions_network_is_torchvisions():
    with torch.device("meta"):
        ours = build_network("wide_resnet50_2", "imagenet")[0].state_dict()
        theirs = torchvision.models.wide_resnet50_2(weights=None).state_dict()
    del theirs["fc.weight"], theirs["fc.bias"]
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "resnet19"}, "MODEL.CLASSIFIER.NAME is 'resnet19'; it can be small_resnet, .*resnet18"),
        ({"name": "resnet18", "STEM": "tiny"}, "MODEL.CLASSIFIER.STEM is 'tiny'; it can be cifar, imagenet"),
        ({"name": "resnet18", "PRETRAINED": "V9"}, "PRETRAINED is 'V9'.*torchvision has IMAGENET1K_V1"),
        ({"name": "small_resnet", "PRETRAINED": "IMAGENET1K_V1"}, "there are none, leave it empty"),
    ],
)
def test_what_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _model(**options)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_pretrained_weights(stem, monkeypatch):
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    theirs = {key: value + 1 for key, value in theirs.items()}  # BatchNorm's too are not the initial ones
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **options: theirs)
    model = _model("resnet18", STEM=stem, PRETRAINED="IMAGENET1K_V1", NUM_CLASSES=3)
    ours = model.network.state_dict()
    differing = [key for key, value in ours.items() if not torch.equal(value, theirs[key])]
    assert differing == ([] if stem == "imagenet" else ["conv1.weight"])
    assert model.head.out_features == 3 and model.has_pixel_statistics
    assert torch.allclose(model.pixel_mean, 255 * torch.tensor([0.485, 0.456, 0.406]))
    assert torch.allclose(model.pixel_std, 255 * torch.tensor([0.229, 0.224, 0.225]))


def test_images_are_normalised_and_channels_last():
    model, seen = _model(), []
    model.set_pixel_statistics(torch.tensor([10.0, 20.0, 30.0]), torch.tensor([1.0, 2.0, 5.0]))
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.tensor([12, 14, 20], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 32, 32)
    model.embed({"images": images})
    assert torch.equal(seen[0][0, :, 5, 5], torch.tensor([2.0, -3.0, -2.0]))
    for tensor in (seen[0], model.network.layers[0].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_brings_its_statistics_and_fits_other_classes(tmp_path, caplog):
    trained = _model(NUM_CLASSES=10)
    trained.set_pixel_statistics(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]))
    for value in (*trained.network.buffers(), *trained.network.parameters()):
        value.data.add_(1)
    DetectionCheckpointer(trained, str(tmp_path)).save("trained")
    tuned = _model(NUM_CLASSES=4)
    head = tuned.head.weight.clone()
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(tuned).load(str(tmp_path / "trained.pth"))
    assert "head.weight" in caplog.text
    assert torch.equal(tuned.head.weight, head)
    for key, value in trained.state_dict().items():
        assert key.startswith("head") or torch.equal(tuned.state_dict()[key], value), key
