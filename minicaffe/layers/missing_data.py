"""How a net can be looked at where its data are missing: with an input of the shape that its images have.

Of that shape (N, C, H, W), C is known from weights, a mean, or the decoding, and H and W from a crop,
``resize_param``, a mean image, or the size to which images are resized. A letter stands in the remedy for what is
not known.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import NetSetting
from minicaffe.data.mean import load_mean
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.data.transformer import TransformParam
from minicaffe.errors import MinicaffeError, listing
from minicaffe.files.weight_formats import open_weights
from minicaffe.layers.convolution import ConvolutionParam
from minicaffe.spec.net import LayerSpec

Sizes = tuple[int | None, int | None, int | None]  # C, H, W; None: not known


def remedy(spec: LayerSpec, setting: NetSetting, read: Sizes) -> str:
    """What to do about a layer without its data. ``read``: the size of its images before they are transformed."""
    sizes = sizes_known(spec, setting, read)
    shape = [1, *sizes] if any(sizes) else [None] * 4
    words = [letter if size is None else str(size) for size, letter in zip(shape, "NCHW", strict=True)]
    letters = [word for word in words if word.isalpha()]
    numbers = f" (write numbers for {listing(letters)})" if letters else ""
    give = f"'minicaffe convert NET --input-shape {spec.top[0]}:{','.join(words)} -o DIR'"
    return f", or look at the net without data: {give} gives it an input of that size{numbers}"


def sizes_known(spec: LayerSpec, setting: NetSetting, read: Sizes) -> Sizes:
    """The size of the images that the net sees, as far as weights, ``transform_param`` and ``read`` say it."""
    channels, height, width = channels_trained(spec.top[0], setting), None, None
    for known in (transformed(spec, setting.folder), read):
        channels, height, width = channels or known[0], height or known[1], width or known[2]
    return channels, height, width


def transformed(spec: LayerSpec, folder: str) -> Sizes:
    """What ``transform_param`` says of the images that the net sees."""
    param = spec.find_message(TransformParam)
    if param is None:
        return None, None, None
    channels, height, width = _mean_shape(param, folder)
    if len(param.mean_value) > 1:
        channels = len(param.mean_value)
    elif param.color is not None:
        channels = 3 if param.color else 1
    if param.resize_param and param.resize_param[0].resize_mode != "FIT_SMALL_SIZE":
        height, width = param.resize_param[0].height, param.resize_param[0].width
    if param.crop is not None:
        height, width = param.crop
    return channels, height, width


def _mean_shape(param: TransformParam, folder: str) -> Sizes:
    try:
        if param.mean_file:
            channels, height, width = load_mean(find_path(param.mean_file, lookup_folders(folder))).shape
            return channels, height + 2 * param.pad, width + 2 * param.pad
    except MinicaffeError:  # it is missing, as the data are
        pass
    return None, None, None


def channels_trained(top: str, setting: NetSetting) -> int | None:
    """The channels for which the first Convolution on a top has weights, where the net starts from some."""
    if setting.weights is None:
        return None
    try:
        with open_weights(setting.weights) as file:
            arrays = file.layers()
            for layer in _convolutions_on(top, setting.layers):
                shape = file.shapes[arrays[layer.name][0]] if layer.name in arrays else ()
                if len(shape) == 4:
                    return int(shape[1]) * layer.message(ConvolutionParam).group
    except MinicaffeError:  # of the weights; here it is the data that are missing
        pass
    return None


def _convolutions_on(top: str, layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    names = {
        top,
        *(name for layer in layers if layer.type == "Split" and top in layer.bottom for name in layer.top),
    }
    return [layer for layer in layers if layer.type == "Convolution" and names & set(layer.bottom)]
