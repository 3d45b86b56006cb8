"""The product on the workers is the product."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.ops import gemm


@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((7, 5), (5, 9)),
        ((9, 5), (5, 7)),
        ((1, 5), (5, 9)),
        ((9, 5), (5, 1)),
        ((1, 5), (5, 1)),
        ((9, 5), (3, 5, 1)),
        ((2, 9, 5), (5, 1)),
        ((4, 3, 5), (4, 5, 2)),
        ((1, 8, 5), (1, 5, 2)),
        ((2, 1, 5), (2, 5, 9)),
        ((0, 5), (5, 3)),
    ],
)
def test_parts_make_the_whole_product(monkeypatch, worker_count, a_shape, b_shape, rng):
    monkeypatch.setattr(workers, "worker_count", worker_count)
    monkeypatch.setattr(gemm, "SMALL", 0)
    a, b = rng.standard_normal(a_shape), rng.standard_normal(b_shape)
    out = np.full((a @ b).shape, np.nan)
    gemm.matmul(a, b, out)
    np.testing.assert_allclose(out, a @ b, atol=1e-13)
    transposed = np.full_like(out, np.nan)
    gemm.matmul(a, np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2), transposed)
    np.testing.assert_allclose(transposed, a @ b, atol=1e-13)


@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize("columns", [1, 2, 5, 9])
def test_a_large_matrix_and_few_columns_make_the_whole_product(monkeypatch, worker_count, columns, rng):
    monkeypatch.setattr(workers, "worker_count", worker_count)
    for name, value in (("SMALL", 0), ("LARGE", 0), ("PANEL", 4), ("FEW_COLUMNS", 6)):
        monkeypatch.setattr(gemm, name, value)
    a, b, out = (
        rng.standard_normal((31, 17)),
        rng.standard_normal((17, columns)),
        np.full((31, columns), np.nan),
    )
    for stored in (a, np.asfortranarray(a)):
        gemm.matmul(stored, b, out)
        np.testing.assert_allclose(out, a @ b, atol=1e-13)
        out.fill(np.nan)


def test_a_vector_is_written_between_others(rng):
    a, b, out = rng.standard_normal((9, 5)), rng.standard_normal((5, 1)), np.zeros((9, 3))
    gemm.matmul(a, b, out[:, 1:2])
    np.testing.assert_allclose(out, np.pad(a @ b, ((0, 0), (1, 1))), atol=1e-13)


@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize(("m", "n"), [(9, 5), (5, 9), (9, 1), (1, 9)])
def test_what_comes_next_is_done_once_to_each_row_when_it_has_been_computed(
    monkeypatch, worker_count, m, n, rng
):
    monkeypatch.setattr(workers, "worker_count", worker_count)
    for name in ("SMALL", "SMALL_VECTOR"):
        monkeypatch.setattr(gemm, name, 0)
    a, b, out = rng.standard_normal((m, 4)), rng.standard_normal((4, n)), np.full((m, n), np.nan)

    workers.make(gemm.calls(a, b, out, lambda rows: [lambda: np.add(out[rows], 1, out=out[rows])]))
    np.testing.assert_allclose(out, a @ b + 1, atol=1e-13)
