"""Records what PyTorch makes of the recurrent part of CTPN, and its CTC loss, as ocr.npz (README.md has the keys).

pip install torch
python tests/golden/make_ocr_golden.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SIZE = 4  # of the hidden states
CTPN = f"""force_backward: true
layer:
- {{name: x0, type: Input, input_param: {{shape: {{dim: [1, 3, 4, 6]}}}}}}
- {{name: im2col, type: Im2col, convolution_param: {{pad: 1, kernel_size: 3}}}}
- {{name: turned, type: Transpose, transpose_param: {{dim: [3, 2, 0, 1]}}}}
- {{name: steps, type: Reshape, reshape_param: {{shape: {{dim: -1}}, axis: 1, num_axes: 2}}}}
- {{name: lstm, type: Lstm, bottom: steps, lstm_param: {{num_output: {SIZE}}}}}
- {{name: reversed, type: Reverse, bottom: steps, reverse_param: {{axis: 0}}}}
- {{name: rlstm, type: Lstm, lstm_param: {{num_output: {SIZE}}}}}
- {{name: back, type: Reverse, reverse_param: {{axis: 0}}}}
- {{name: both, type: Concat, bottom: [lstm, back], concat_param: {{axis: 2}}}}
- {{name: rows, type: Reshape, reshape_param: {{shape: {{dim: [-1, 1]}}, axis: 1, num_axes: 1}}}}
- {{name: y0, type: Transpose, transpose_param: {{dim: [2, 3, 1, 0]}}}}
"""


def of_torch(blob: np.ndarray) -> np.ndarray:
    """Rows for the gates i, f, o, g in PyTorch's order, i, f, g, o."""
    i, f, o, g = np.split(blob, 4)
    return np.concatenate([i, f, g, o])


def of_caffe(array: torch.Tensor) -> np.ndarray:
    """The same back: each of the two orders changes the last two rows of the other."""
    return of_torch(array.numpy())


def ctpn(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs, outputs and gradients of a bidirectional LSTM over the rows of a feature map."""
    x = torch.from_numpy(rng.standard_normal((1, 3, 4, 6))).requires_grad_()
    lstm = torch.nn.LSTM(27, SIZE, bidirectional=True, dtype=torch.float64)
    case: dict[str, np.ndarray] = {
        "net": np.array(CTPN),
        "phase": np.array("train"),
        "in_x0": x.detach().numpy(),
    }
    names = {"lstm": "l0", "rlstm": "l0_reverse"}
    for layer, name in names.items():
        w_x, w_h, b = (
            rng.uniform(-0.5, 0.5, shape) for shape in ((4 * SIZE, 27), (4 * SIZE, SIZE), (4 * SIZE,))
        )
        case |= {f"p_{layer}_{i}": blob for i, blob in enumerate((w_x, w_h, b))}
        with torch.no_grad():
            for what, blob in (("weight_ih", w_x), ("weight_hh", w_h), ("bias_ih", b), ("bias_hh", 0 * b)):
                getattr(lstm, f"{what}_{name}").copy_(torch.from_numpy(of_torch(blob)))
    windows = torch.nn.functional.unfold(x, 3, padding=1).reshape(27, 4, 6)
    y = lstm(windows.permute(2, 1, 0))[0].permute(2, 1, 0)[None]
    dy = rng.standard_normal(y.shape)
    y.backward(torch.from_numpy(dy))
    case |= {"out_y0": y.detach().numpy(), "gout_y0": dy, "gin_x0": x.grad.numpy()}
    for layer, name in names.items():
        for i, what in enumerate(("weight_ih", "weight_hh", "bias_ih")):
            case[f"gp_{layer}_{i}"] = of_caffe(getattr(lstm, f"{what}_{name}").grad)
    return case


def ctc(rng: np.random.Generator, sizes: tuple[int, int, int], blank: int) -> dict[str, np.ndarray]:
    """Scores, labels and lengths of both; −log p of each sequence, and the gradient of their sum."""
    steps, batch, classes = sizes
    x = torch.from_numpy(2 * rng.standard_normal(sizes)).requires_grad_()
    labels = rng.choice([c for c in range(classes) if c != blank], (batch, steps // 2))
    lengths = rng.integers(0, steps // 2 + 1, batch)
    given = rng.integers(1, steps + 1, batch)  # too few steps for some labels
    tensors = [torch.from_numpy(a) for a in (labels, given, lengths)]
    logs = x.log_softmax(2)
    costs = torch.nn.functional.ctc_loss(logs, *tensors, blank=blank, reduction="none")
    torch.nn.functional.ctc_loss(logs, *tensors, blank=blank, reduction="sum", zero_infinity=True).backward()
    numbers = {"in_x": x.detach(), "costs": costs.detach(), "gin_x": x.grad}
    whole = {"labels": labels, "lengths": lengths, "steps": given, "blank": np.array(blank)}
    return {**{key: value.numpy() for key, value in numbers.items()}, **whole}


def main() -> None:
    """Write ocr.npz."""
    rng, found = np.random.default_rng(0), {}
    cases = {"ctpn": ctpn(rng), "ctc_few": ctc(rng, (9, 20, 3), 0), "ctc_many": ctc(rng, (25, 6, 40), 39)}
    for name, case in cases.items():
        for key, value in case.items():
            found[f"{name}/{key}"] = value.astype(np.float32) if value.dtype == np.float64 else value
    np.savez_compressed(Path(__file__).parent / "ocr.npz", **found)


if __name__ == "__main__":
    main()
