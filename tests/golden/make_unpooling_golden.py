"""Records tests/golden/unpooling.npz: PyTorch's max_pool2d, max_unpool2d and their gradient.

    python tests/golden/make_unpooling_golden.py        (torch 2.13)

x (2, 3, 7, 6): the odd height leaves a last row of windows that are cut off (``ceil_mode``), as Caffe has it.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import max_pool2d, max_unpool2d


def main() -> None:
    rng = np.random.default_rng(22)
    shape = (2, 3, 7, 6)
    x = torch.tensor(rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) * 0.1 - 7)
    x.requires_grad_()
    pooled, places = max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    unpooled = max_unpool2d(pooled, places, 2, 2, output_size=shape)
    dy = torch.tensor(rng.standard_normal(shape).astype(np.float32))
    unpooled.backward(dy)
    arrays = {"x": x, "pooled": pooled, "places": places, "unpooled": unpooled, "dy": dy, "dx": x.grad}
    np.savez_compressed(
        Path(__file__).with_name("unpooling.npz"),
        **{name: array.detach().numpy() for name, array in arrays.items()},
    )


if __name__ == "__main__":
    main()
