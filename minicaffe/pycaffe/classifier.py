"""caffe.Classifier: a ``caffe.Net`` that classifies images; the work is ``minicaffe.Classifier``'s."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import minicaffe
from minicaffe.data.preparation import Preparation
from minicaffe.pycaffe.net import Net
from minicaffe.pycaffe.proto.caffe_pb2 import TEST


class Classifier(Net):
    """A net, and what is done to its images, which is given as for ``minicaffe.Classifier``."""

    def __init__(
        self, model_file: str | Path, pretrained_file: str | Path | None, *preprocessing: Any, **named: Any
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        nothing = Preparation()  # pycaffe's default
        self._classifier = minicaffe.Classifier(
            self.core,
            None,
            *preprocessing,
            **{"output": self.core.outputs[0], "preparation": nothing, **named},
        )
        self.transformer = self._classifier.transformer
        self.image_dims = np.array(self._classifier.image_dims)
        self.crop_dims = self._classifier.crop_dims

    def predict(self, inputs: Iterable[np.ndarray], oversample: bool = True) -> np.ndarray:
        """The probabilities, (N, classes), of images (H, W, K): of the centre, or the mean over ten crops."""
        return self._classifier.predict(inputs, oversample)
