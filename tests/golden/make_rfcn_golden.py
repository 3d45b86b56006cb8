"""Records tests/golden/rfcn.npz: what OpenCV computes for the net of rfcn.prototxt, a small R-FCN.

    python tests/golden/make_rfcn_golden.py        (opencv-python-headless 4.14)

``p_<layer>_<i>`` are the parameters, ``in_<blob>`` the inputs, ``out_<blob>`` the blobs that OpenCV gives.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np

import minicaffe as mc

HERE = Path(__file__).parent
OUTPUTS = ["rois", "psroi_cls", "psroi_bbox", "cls_prob", "bbox_pred"]


def main() -> None:
    rng = np.random.default_rng(22)
    net = mc.Net(HERE / "rfcn.prototxt", phase="test")
    arrays = {}
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            size = 1 / np.sqrt(np.prod(blob.shape[1:])) if i == 0 else 0.1
            values = (rng.standard_normal(blob.shape) * size).astype(np.float32)
            blob.data[...] = arrays[f"p_{name}_{i}"] = values
    inputs = {
        "data": rng.standard_normal((1, 3, 72, 96)).astype(np.float32),
        "im_info": np.array([[72, 96, 1]], np.float32),
    }
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "rfcn.caffemodel"))
        net.save(weights)
        other = cv2.dnn.readNetFromCaffe(str(HERE / "rfcn.prototxt"), weights)
    for name, values in inputs.items():
        arrays[f"in_{name}"] = values
        other.setInput(values, name)
    layers = ["proposal", *OUTPUTS[1:]]
    arrays |= {f"out_{name}": other.forward(layer) for name, layer in zip(OUTPUTS, layers, strict=True)}
    np.savez_compressed(HERE / "rfcn.npz", **arrays)


if __name__ == "__main__":
    main()
