"""GraNd: the norm of an image's gradient early in training.

Paul et al. 2021, "Deep Learning on a Data Diet: Finding Important Examples Early in Training". The
norms themselves are computed here too, for whoever gathers the evidence.

N images, K classes, F features. A layer turns D inputs to O outputs in each of G groups at each of P
places: the pixels that a convolution gives, or one if a layer is given a vector.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from .el2n import error_norms
from .evidence import Evidence, LastLayer

Wrap = Callable[[Tensor], object]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# What a multiplication costs when an image's whole gradient is the result, which leaves the cache, next
# to one whose result is small. Measured.
_RESULT_COST = 1.2


def grand(evidence: Evidence, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images with the largest gradient, (N,) float64.

    The paper's score is E ||g_t(x, y)||_2, g_t the gradient of the loss of one image on all parameters
    of a network after a few epochs t, the mean taken over 10 networks that differ in their
    initialisation and the order of the images. How many networks there are, how early, and on which
    parameters, is the evidence's to say; the paper leaves BatchNorm open, which is in evaluation mode
    here, as the gradient of one image is not defined otherwise.

    Caveat: the paper itself finds that the images with the very highest scores, many of them labelled
    wrong, are better left out when labels are noisy or little is kept. They are kept here, as in its
    main experiments. Its result at initialisation (t = 0) does not reproduce (Kirsch 2023, "Does 'Deep
    Learning on a Data Diet' reproduce? Overall yes, but GraNd at initialization does not").
    """
    return evidence.gradient_norms().mean(axis=0, dtype=np.float64)


def last_layer_gradient_norms(layer: LastLayer, labels: np.ndarray) -> np.ndarray:
    """Norm of the gradient of each image's cross-entropy on weight and bias of the last layer.

    The gradient is the outer product of p - y and (h, 1), h the features, so its norm is the product
    of theirs.

    Args:
        labels: (N,) integers in [0, K).

    Returns:
        (N,) float32.
    """
    squared_inputs = np.einsum("nf,nf->n", layer.features, layer.features) + 1
    return error_norms(layer, labels) * np.sqrt(squared_inputs)


def full_gradient_norms(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    wrap: Wrap | None = None,
    chunk_size: int = 64,
) -> np.ndarray:
    """Norm of the gradient of each image's cross-entropy on all parameters that are trained.

    Exact for any network. One of linear layers, convolutions, BatchNorm and what has no parameters
    takes one forward and one backward pass a chunk: the norm of a layer's gradient follows from what
    the layer sees and the gradient on what it gives. It takes about twice the time of these passes
    alone. Others take a backward pass an image, five times that. (So does, nearly, vmap of
    torch.func.grad, which knows neither channels-last nor autocast.) Autocast around the call holds
    inside: with bfloat16 the norms are right to 1% and come in two thirds of the time.

    Args:
        model: its parameters with `requires_grad` count. It is put into evaluation mode for the time:
            BatchNorm takes its running statistics, or the images would not be independent.
        images: (N, 3, H, W) on the model's device.
        labels: (N,) int64 in [0, K), on the model's device.
        wrap: makes of images what the model is called with to give logits (N, K); None if that is the
            images themselves. For an ImageClassifier: `lambda images: {"images": images}`.
        chunk_size: images at a time; bounds the memory.

    Returns:
        (N,) float32.
    """
    layers = _trained_layers(model)
    norms = []
    with _evaluating(model):
        for chunk in zip(images.split(chunk_size), labels.split(chunk_size)):
            found = _norms_by_layer(model, layers, *chunk, wrap) if layers else None
            if found is None:
                layers, found = None, _norms_by_image(model, *chunk, wrap)
            norms.append(found)
    return torch.cat(norms).cpu().numpy()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients, and without torch.compile, whose graphs skip hooks."""
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        model.train(was_training)


def _loss(model: nn.Module, images: Tensor, labels: Tensor, wrap: Wrap | None) -> Tensor:
    logits = model(wrap(images) if wrap else images)
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def _norms_by_image(model: nn.Module, images: Tensor, labels: Tensor, wrap: Wrap | None) -> Tensor:
    """Norms (N,) by a backward pass of each image, right for whatever the model does."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    norms = []
    for image, label in zip(images.split(1), labels.split(1)):
        loss = _loss(model, image, label, wrap)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        norms.append(torch.nn.utils.get_total_norm([g for g in gradients if g is not None]))
    return torch.stack(norms)


def _trained_layers(model: nn.Module) -> list[nn.Module] | None:
    """The layers that own the trained parameters; None if there is something only autograd knows.

    Raises:
        ValueError: no parameter is trained.
    """
    layers = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    if not layers:
        raise ValueError("no parameter of the model has requires_grad: there is no gradient to measure")
    owned = [p for layer in layers for p in layer.parameters(recurse=False)]
    shared = len(owned) > len(set(owned))
    independent = all(m.track_running_stats for m in model.modules() if isinstance(m, _NORMS))
    return layers if independent and not shared and all(map(_is_known, layers)) else None


def _is_known(layer: nn.Module) -> bool:
    """Whether `_squared_norms` holds for the layer. A subclass may do more than the class it is of."""
    if type(layer) is nn.Conv2d:
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    else:
        plain = type(layer) in (nn.Linear, *_NORMS)
    names = {name for name, _ in layer.named_parameters(recurse=False)}
    return plain and names <= {"weight", "bias"}  # others, if reparametrised


def _norms_by_layer(
    model: nn.Module, layers: list[nn.Module], images: Tensor, labels: Tensor, wrap: Wrap | None
) -> Tensor | None:
    """Norms (N,) by one backward pass; None if a layer is not called once, on N images."""
    calls: list[tuple[nn.Module, Tensor, GradientEdge]] = []

    def note(layer, args, kwargs, output):
        (seen,) = (*args, *kwargs.values())
        # The edge, not the output: that may be a ReLU's in place by the time of the backward pass.
        if output.requires_grad and len(seen) == len(images):
            calls.append((layer, seen.detach(), get_gradient_edge(output)))

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        loss = _loss(model, images, labels, wrap)
    finally:
        for hook in hooks:
            hook.remove()
    if sorted(map(id, layers)) != sorted(id(layer) for layer, _, _ in calls):
        return None
    gradients = torch.autograd.grad(loss, [edge for _, _, edge in calls], allow_unused=True)
    squared = torch.zeros(len(images), device=images.device)
    for (layer, seen, _), gradient in zip(calls, gradients):
        if gradient is not None:
            squared += _squared_norms(layer, seen.to(gradient.dtype), gradient)
    return squared.sqrt()


def _squared_norms(layer: nn.Module, seen: Tensor, gradient: Tensor) -> Tensor:
    """Squared norm (N,) of each image's gradient on a layer's weight and bias.

    Args:
        seen: what the layer was called with, (N, ...).
        gradient: that of the loss on what it gave, (N, ...).
    """
    groups = 1
    if type(layer) is not nn.Linear:
        groups = getattr(layer, "groups", 1)
        gradient = gradient.movedim(1, -1)
    gradient = _by_place(gradient, groups)
    squared = torch.zeros(len(seen), device=seen.device)
    if layer.weight.requires_grad:
        if type(layer) in _NORMS:
            centred = _by_place(seen.movedim(1, -1), 1) - layer.running_mean
            on_weight = (centred * gradient).sum(2, dtype=torch.float32)
            on_weight = on_weight * (layer.running_var + layer.eps).rsqrt()
            squared += on_weight.square().sum((1, 2))
        else:
            seen = _windows(layer, seen) if type(layer) is nn.Conv2d else _by_place(seen, 1)
            squared += _squared_norms_of_products(seen, gradient)
    if layer.bias is not None and layer.bias.requires_grad:
        squared += gradient.sum(2, dtype=torch.float32).square().sum((1, 2))
    return squared


def _by_place(x: Tensor, groups: int) -> Tensor:
    """(N, ..., G O) to (N, G, P, O), P being the size of what lies between."""
    return x.reshape(len(x), -1, groups, x.shape[-1] // groups).transpose(1, 2)


def _windows(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """What a convolution multiplies with its weight: (N, G D / (kernel size), H, W) to (N, G, P, D).

    Channels come last in D, unlike in torch.nn.functional.unfold, which takes twice as long.
    """
    (height, width), (pad_y, pad_x) = conv.kernel_size, conv.padding
    x = F.pad(images.movedim(1, -1), (0, 0, pad_x, pad_x, pad_y, pad_y))
    for axis, size in ((1, height), (2, width)):
        reach = (size - 1) * conv.dilation[axis - 1] + 1
        x = x.unfold(axis, reach, conv.stride[axis - 1])
    x = x[..., :: conv.dilation[0], :: conv.dilation[1]]  # (N, rows, columns, channels, height, width)
    x = x.unflatten(3, (conv.groups, -1)).permute(0, 3, 1, 2, 5, 6, 4)
    return x.flatten(4).flatten(2, 3)


def _squared_norms_of_products(seen: Tensor, gradient: Tensor) -> Tensor:
    """|| sum_p g_p x_p^T ||^2 summed over the groups, (N,).

    It equals sum_pq (x_p . x_q) (g_p . g_q), which is less work where places are few (the "ghost norm"
    of Li et al. 2022, "Large language models can be strong differentially private learners").

    Args:
        seen: x, (N, G, P, D).
        gradient: g, (N, G, P, O).
    """
    places, inputs, outputs = seen.shape[2], seen.shape[3], gradient.shape[3]
    if places * (inputs + outputs) < _RESULT_COST * inputs * outputs:
        products = (seen @ seen.mT) * (gradient @ gradient.mT)
    else:
        products = (gradient.mT @ seen).square()
    return products.sum((1, 2, 3), dtype=torch.float32)
