"""Records what OpenCV's ``INTER_LINEAR`` makes of images, (H, W, 3) and (H, W), as resized.npz.

pip install 'opencv-python-headless<5'
python tests/golden/make_resized_golden.py
"""

from __future__ import annotations

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


def main() -> None:
    """Write resized.npz."""
    rng, found = np.random.default_rng(0), {}
    for name, (shape, (height, width)) in SIZES.items():
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        found[f"{name}/in"] = image
        found[f"{name}/out"] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    np.savez_compressed(Path(__file__).parent / "resized.npz", **found)


if __name__ == "__main__":
    main()
