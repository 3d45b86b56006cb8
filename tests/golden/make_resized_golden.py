"""Records what OpenCV's ``INTER_LINEAR`` makes of images, (H, W, 3) and (H, W), as resized.npz.

Of large images the result's SHA-256 is recorded: at their odd sizes places lie where rounding shows.

pip install 'opencv-python-headless<5'
python tests/golden/make_resized_golden.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

SIZES = {  # (H, W, …) and (height, width)
    "smaller": ((23, 31, 3), (11, 17)),
    "larger": ((9, 7, 3), (20, 16)),
    "half": ((12, 16, 3), (6, 8)),
    "wider": ((20, 9, 3), (7, 40)),
    "grey": ((17, 13), (8, 29)),
    "one_pixel": ((1, 1, 3), (3, 4)),
    "to_one_pixel": ((6, 5, 3), (1, 1)),
}
LARGE = {
    "narrow": ((362, 25), (214, 263)),
    "flat": ((17, 325), (293, 74)),
    "long": ((1, 3949), (1, 4096)),  # 1 / (4096 / 3949) is not 3949 / 4096
}


def main() -> None:
    """Write resized.npz."""
    rng, found = np.random.default_rng(0), {}
    for name, (shape, (height, width)) in SIZES.items():
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        found[f"{name}/in"] = image
        found[f"{name}/out"] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    for name, (shape, (height, width)) in LARGE.items():
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        found[f"{name}/in"] = image
        found[f"{name}/size"] = np.array(resized.shape)
        found[f"{name}/sha256"] = np.array(hashlib.sha256(resized.tobytes()).hexdigest())
    np.savez_compressed(Path(__file__).parent / "resized.npz", **found)


if __name__ == "__main__":
    main()
