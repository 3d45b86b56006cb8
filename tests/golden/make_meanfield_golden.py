"""Records what the authors' code for fully connected CRFs makes of scores and images, as meanfield.npz.

Their lattice is the one that CRF-RNN's Caffe took over, and with one weight for each filter and the Potts model
their inference is CRF-RNN's. Q is the softmax of y.

pip install pydensecrf2 numpy
python tests/golden/make_meanfield_golden.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydensecrf.densecrf as dcrf

CASES = {  # (labels, height, width), iterations, theta_gamma, theta_alpha, theta_beta, the two weights
    "narrow": ((3, 8, 11), 5, 1.5, 6.0, 20.0, (0.8, 0.6)),
    "wide": ((4, 12, 10), 3, 3.0, 160.0, 30.0, (3.0, 5.0)),
    "of_two": ((2, 16, 9), 10, 2.0, 40.0, 13.0, (0.5, 1.5)),
}


def main() -> None:
    """Write meanfield.npz."""
    rng, found = np.random.default_rng(0), {}
    for name, ((labels, height, width), iterations, gamma, alpha, beta, weights) in CASES.items():
        scores = rng.standard_normal((labels, height, width)).astype(np.float32)
        image = (
            rng.integers(0, 4, (height, width, 3)) * 60 + rng.integers(0, 20, (height, width, 3))
        ).astype(np.uint8)
        crf = dcrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(-scores.reshape(labels, -1))
        kernel = {"kernel": dcrf.CONST_KERNEL, "normalization": dcrf.NORMALIZE_AFTER}
        crf.addPairwiseGaussian(sxy=gamma, compat=weights[0], **kernel)
        crf.addPairwiseBilateral(sxy=alpha, srgb=beta, rgbim=image, compat=weights[1], **kernel)
        q = np.array(crf.inference(iterations)).reshape(scores.shape)
        settings = np.array([iterations, gamma, alpha, beta, *weights])
        case = {"scores": scores, "image": image.transpose(2, 0, 1), "settings": settings, "q": q}
        found |= {f"{name}/{key}": value for key, value in case.items()}
    np.savez_compressed(Path(__file__).parent / "meanfield.npz", **found)


if __name__ == "__main__":
    main()
