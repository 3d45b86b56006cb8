"""The nets of prototxt/ in numbers, as the table in prototxt/README.md has them: ``python benchmarks/zoo.py``.

Parameters are those that are trained: without the statistics of BatchNorm, and without fixed kernels.
"""

from __future__ import annotations

from pathlib import Path

import minicaffe as mc
from minicaffe.train.preview import count_multiply_adds, count_parameters

PROTOTXT = Path(__file__).parent.parent / "prototxt"
OWN = ("lenet", "cifar10", "ssd_digits", "segnet_digits")  # which are trained here, and small


def row(path: Path) -> str:
    """A net's line of the table: its name, the shape of an image, what it learns, and what an image costs."""
    net = mc.Net(path)
    name = path.parent.name if path.stem == "deploy" else f"{path.parent.name}/{path.stem}"
    image = " × ".join(map(str, net.blobs[net.inputs[0]].shape[1:]))
    parameters, held = count_parameters(net)
    return f"| {name} | {image} | {parameters - held:,} | {count_multiply_adds(net):,} |"


def main() -> None:
    """Print the table."""
    print("| net | image | parameters | multiply-adds |\n|---|---|---|---|")
    paths = [*PROTOTXT.glob("*/deploy.yaml"), *(PROTOTXT / "mtcnn").glob("*.yaml")]
    for path in sorted(path for path in paths if not path.parent.name.startswith(OWN)):
        print(row(path))


if __name__ == "__main__":
    main()
