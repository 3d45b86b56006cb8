"""Records tests/golden/nearest.npz: which pixels of a row OpenCV's ``INTER_NEAREST`` takes, for pairs of lengths.

pip install 'opencv-python-headless<5'
python tests/golden/make_nearest_golden.py
"""

from pathlib import Path

import cv2
import numpy as np

LENGTHS = [(old, new) for old in (1, 3, 20, 49, 99, 255) for new in (1, 2, 6, 31, 49, 98)]


def main() -> None:
    """Write nearest.npz."""
    taken = []
    for old, new in LENGTHS:
        row = np.arange(old, dtype=np.uint8)[None]
        taken.append(cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST)[0])
    np.savez_compressed(
        Path(__file__).with_name("nearest.npz"), lengths=np.array(LENGTHS), taken=np.concatenate(taken)
    )


if __name__ == "__main__":
    main()
