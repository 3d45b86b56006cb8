"""What the last layers of YOLO v2 and v3 have in common: grids as bottoms, and rows of detections as top."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, Layer
from minicaffe.ops.detection import yolo


class YoloOutput(Layer):
    """Base: grids (N, A · channels, H, W) of different sizes -> y (1, 1, D, 7)."""

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def reshape_grids(self, bottom: Blobs, top: Blobs, anchors: int, classes: int, channels: int) -> None:
        """Checks the shapes of the grids, of so many anchors with so many channels each."""
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            shape = blob.shape
            fits = len(shape) == 4 and shape[1] == anchors * channels and shape[2] * shape[3]
            if not fits or shape[0] != bottom[0].shape[0]:
                raise self.shape_error(
                    f"bottom '{name}' has shape {shape}; expected (N, {anchors} · {channels}, H, W), for "
                    f"{anchors} anchors and {classes} classes, with one N for all bottoms"
                )
        top[0].reshape(1, 1, 1, 7)

    def put_detections(
        self,
        top: Blobs,
        boxes: np.ndarray,
        labels: np.ndarray,
        confidences: np.ndarray,
        counts: np.ndarray,
        threshold: float,
    ) -> None:
        """Writes the boxes (N, P, 4) that count, with labels from 0, and are left after ``yolo.detections``."""
        rows = yolo.detections(boxes, labels + 1, confidences, counts, threshold)
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data[0, 0] = self.setting.device.put(rows, self.dtype)
