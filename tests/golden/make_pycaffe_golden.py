"""Records what real pycaffe computes beside nets, as pycaffe.npz: images, nets written in Python, coordinate maps.

It runs like make_golden.py, whose docstring says what to install:

    GLOG_minloglevel=2 python tests/golden/make_pycaffe_golden.py

README.md says what the keys mean. Images are only enlarged: pycaffe with a scikit-image of today smooths what it
shrinks, which that of Caffe's time did not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import caffe
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.pycaffe.pycaffe_cases import CLASSIFIED, CONTEXT_PAD, DETECTED, NETS, WINDOWS, net_of  # noqa: E402

RESIZED = {"colour": ((7, 9, 3), (13, 11)), "grey": ((7, 9, 1), (14, 9)), "four": ((6, 8, 4), (9, 13))}
SETTINGS = {"raw_scale": 255.0, "channel_swap": (2, 1, 0), "input_scale": 0.02, "image_dims": (12, 10)}


def images(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """Resized and cropped images, and one that is transformed."""
    found: dict[str, np.ndarray] = {}
    for name, (shape, size) in RESIZED.items():
        image = (rng.rand(*shape) * 3 - 1).astype(np.float32)
        found[f"resize_{name}/in"], found[f"resize_{name}/out"] = image, caffe.io.resize_image(image, size)
    pair = rng.rand(2, 9, 11, 3).astype(np.float32)
    found["oversample/in"], found["oversample/out"] = pair, caffe.io.oversample(pair, (4, 6))
    transformer = caffe.io.Transformer({"data": (1, 3, 8, 9)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255.0)
    transformer.set_input_scale("data", 0.5)
    mean = (rng.rand(3, 8, 9) * 100).astype(np.float32)
    transformer.set_mean("data", mean)
    image = rng.rand(6, 7, 3).astype(np.float32)
    data = transformer.preprocess("data", image)
    found["transformer/in"], found["transformer/mean"], found["transformer/out"] = image, mean, data
    found["transformer/back"] = transformer.deprocess("data", data)
    return found


def classified(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """A net's weights, as the bytes of a file that Caffe wrote, and what its Classifier makes of images."""
    with tempfile.TemporaryDirectory() as folder:
        spec, weights = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
        spec.write_text(CLASSIFIED)
        caffe.set_random_seed(3)
        caffe.Net(str(spec), caffe.TEST).save(str(weights))
        mean = np.array([104.0, 117.0, 123.0])
        classifier = caffe.Classifier(str(spec), str(weights), mean=mean, **SETTINGS)
        pair = [rng.rand(9, 8, 3).astype(np.float32), rng.rand(12, 10, 3).astype(np.float32)]
        return {
            "classifier/weights": np.frombuffer(weights.read_bytes(), np.uint8),
            "classifier/image0": pair[0],
            "classifier/image1": pair[1],
            "classifier/oversampled": classifier.predict(pair),
            "classifier/centre": classifier.predict(pair, oversample=False),
        }


class Image(np.ndarray):
    """An image that may be sliced from 1.0 to 3.0, as NumPy allowed in Caffe's time."""

    def __getitem__(self, place: object) -> object:
        if isinstance(place, tuple):
            place = tuple(slice(int(s.start), int(s.stop)) if isinstance(s, slice) else s for s in place)
        return super().__getitem__(place)


def cropped(rng: np.random.RandomState) -> dict[str, np.ndarray]:
    """What a Detector makes of windows with context that reach beyond the image."""
    with tempfile.TemporaryDirectory() as folder:
        spec, weights = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
        spec.write_text(DETECTED)
        caffe.Net(str(spec), caffe.TEST).save(str(weights))
        detector = caffe.Detector(str(spec), str(weights), mean=np.array([0.25]), context_pad=CONTEXT_PAD)
        image = rng.rand(20, 24, 1).astype(np.float32)
        crops = [detector.crop(image.view(Image), np.array(window)) for window in WINDOWS]
        return {"detector/image": image, "detector/crops": np.stack(crops).astype(np.float32)}


def main() -> None:
    """Write pycaffe.npz."""
    rng = np.random.RandomState(0)
    found = {**images(rng), **classified(rng), **cropped(rng)}
    for name in NETS:
        found[f"net_{name}/text"] = np.array(str(net_of(name, caffe)))
    np.savez_compressed(HERE / "pycaffe.npz", **found)


if __name__ == "__main__":
    main()
