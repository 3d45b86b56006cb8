"""The basis of a data matrix that is never whole in memory spans what LAPACK's SVD of the whole matrix spans."""

from dataclasses import replace

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.low_rank import data_basis
from minicaffe.low_rank.factorization import orthonormal
from minicaffe.low_rank.products import TwoStage
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops import gemm
from minicaffe.ops.convolution import dense as convolution
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.reference import im2col
from tests.low_rank.low_rank_cases import PLAIN, data_matrix, layer_of, output, span

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

# (x's shape (C, H, W, N), window, groups)
GEOMETRIES = {
    "plain": ((3, 8, 7, 4), Window((3, 3)), 1),
    "padded": ((3, 6, 6, 4), Window((3, 2), pad=(1, 2)), 1),
    "strided": ((2, 9, 8, 5), Window((3, 3), stride=(2, 1), pad=(1, 0)), 1),
    "dilated": ((2, 9, 9, 4), Window((3, 3), pad=(2, 1), dilation=(2, 3)), 1),
    "groups": ((6, 6, 6, 4), Window((3, 3), pad=(1, 1)), 2),
    "depthwise": ((4, 7, 6, 3), Window((3, 3)), 4),
    "1×1": ((9, 4, 5, 3), Window((1, 1)), 1),
    "1×1, groups, strided": ((8, 6, 6, 3), Window((1, 1), stride=(2, 2)), 2),
    "one pixel": ((20, 1, 1, 31), Window((1, 1)), 1),
    "a batch of one": ((2, 8, 8, 1), Window((3, 3)), 1),
}
FEW_COLUMNS = {
    "fewer columns than rows": ((8, 4, 3, 2), Window((3, 2)), 1),
    "fewer columns than rows, groups": ((12, 4, 4, 1), Window((3, 3)), 2),
    "one column": ((5, 3, 3, 1), Window((3, 3)), 1),
    "one pixel, a small batch": ((40, 1, 1, 6), Window((1, 1)), 1),
    "a kernel larger than the image": ((6, 2, 2, 2), Window((5, 5), pad=(2, 2)), 1),
}

ALL = {**GEOMETRIES, **FEW_COLUMNS}
FEW = {name: ALL[name] for name in ("dilated", "groups", "1×1, groups, strided", "one column")}

each_geometry = pytest.mark.parametrize("geometry", ALL.values(), ids=ALL)
enough_columns = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
few_columns = pytest.mark.parametrize("geometry", FEW_COLUMNS.values(), ids=FEW_COLUMNS)
few_geometries = pytest.mark.parametrize("geometry", FEW.values(), ids=FEW)
exact = pytest.mark.parametrize("find", [data_basis.from_gram, data_basis.from_svd])


def image_like(rng, shape, dtype="float64"):
    """Smooth random images with some noise: singular values that decay, as real activations' do."""
    x = rng.standard_normal(shape)
    for axis in (1, 2):
        x = x + np.roll(x, 1, axis) + np.roll(x, 2, axis)
    mix = rng.standard_normal((shape[0], shape[0]))
    return (np.einsum("dc,chwn->dhwn", mix, x) + 0.3 * rng.standard_normal(shape)).astype(dtype)


def make(rng, geometry, dtype="float64"):
    """The convolution of a geometry, an input, and its data matrices (g, K/g, P) in float64."""
    shape, window, group = geometry
    dense = DenseConvolution(Geometry(shape, 2 * group, window, group), dtype)
    x = image_like(rng, shape, dtype)
    return (
        dense,
        x,
        im2col(x.astype("f8"), window).reshape(group, dense.geometry.depth, dense.geometry.columns),
    )


def singular_values(columns):
    """Over the stack, with zeros where there are fewer columns than rows."""
    found = np.linalg.svd(columns, compute_uv=False)
    s = np.zeros(columns.shape[:2])
    s[:, : found.shape[1]] = found
    return s


def best_error(columns, rank):
    return np.sqrt((singular_values(columns)[:, rank:] ** 2).sum())


def projection_error(columns, q):
    """‖X − Q·(Qᵀ·X)‖, in float64."""
    q = q.astype("f8")
    return np.linalg.norm(columns - q @ (q.swapaxes(-1, -2) @ columns))


def assert_orthonormal(q, tolerance=1e-10):
    product = q.swapaxes(-1, -2) @ q
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(q.shape[-1]), product.shape), atol=tolerance)


def ranks_of(dense):
    return sorted({1, 2, dense.geometry.depth // 2, dense.geometry.depth - 1, dense.geometry.depth} - {0})


@each_geometry
def test_gram_is_the_data_matrix_times_its_transpose(geometry, rng):
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        dense, x, columns = make(rng, geometry, dtype)
        found = dense.gram(dense.pad(x))
        expected = columns @ columns.swapaxes(-1, -2)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
        np.testing.assert_array_equal(found, found.swapaxes(-1, -2))


@pytest.mark.parametrize(("worker_count", "block_bytes"), [(1, 1), (1, 700), (2, 700), (3, 1)])
@few_geometries
def test_gram_is_the_same_however_the_data_matrix_is_cut(
    monkeypatch, geometry, worker_count, block_bytes, rng
):
    monkeypatch.setattr(convolution, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(convolution, "SMALL_COLUMNS", 0 if block_bytes < 1000 else 1000)
    monkeypatch.setattr(convolution, "SHORT_BLOCK", 1)
    monkeypatch.setattr(gemm, "SMALL", 0)
    monkeypatch.setattr(workers, "worker_count", worker_count)
    dense, x, columns = make(rng, geometry)
    found = [dense.gram(dense.pad(x)) for _ in range(2)]
    expected = columns @ columns.swapaxes(-1, -2)
    np.testing.assert_allclose(found[0], expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(found[0], found[1])


def test_gram_of_many_float32_columns_keeps_its_digits(rng):
    dense = DenseConvolution(Geometry((2, 30, 30, 40), 1, Window((3, 3))), "float32")
    x = (rng.standard_normal(dense.geometry.shape) + 3).astype("f4")
    columns = im2col(x.astype("f8"), dense.geometry.window)
    np.testing.assert_allclose(dense.gram(dense.pad(x))[0], columns @ columns.T, rtol=1e-5)


@each_geometry
def test_left_vectors_are_orthonormal_and_all_there_and_their_values_are_lapacks(geometry, rng):
    dense, x, columns = make(rng, geometry)
    s = singular_values(columns)
    for find in (data_basis.from_gram, data_basis.from_svd):
        found = find(dense, x)
        assert found.u.shape == (dense.geometry.group, dense.geometry.depth, dense.geometry.depth)
        assert_orthonormal(found.u)
        np.testing.assert_allclose(found.s, s, atol=1e-6 * s.max())
        assert float(found.total) == pytest.approx((columns**2).sum(), rel=1e-10)
        assert found.tail == 0


@exact
@each_geometry
def test_projection_on_the_exact_basis_has_the_error_of_lapacks(geometry, find, rng):
    dense, x, columns = make(rng, geometry)
    found = find(dense, x)
    for rank in ranks_of(dense):
        kept = found.truncate(rank)
        best = best_error(columns, rank)
        slack = 1e-6 * np.linalg.norm(columns)
        assert projection_error(columns, kept.u) == pytest.approx(best, rel=1e-9, abs=1e-7 * slack)
        assert kept.tail**0.5 == pytest.approx(best, rel=1e-6, abs=slack)


@exact
@few_geometries
def test_the_exact_basis_of_float32_data_is_as_good(geometry, find, rng):
    dense, x, columns = make(rng, geometry, "float32")
    found = find(dense, x)
    assert found.u.dtype == np.float32
    assert_orthonormal(found.u, 1e-5)
    for rank in ranks_of(dense):
        slack = 1e-5 * np.linalg.norm(columns)
        assert projection_error(columns, found.u[..., :rank]) <= best_error(columns, rank) * 1.0001 + slack


@few_geometries
def test_the_exact_bases_project_alike(geometry, rng):
    dense, x, columns = make(rng, geometry)
    lapack = np.linalg.svd(columns, full_matrices=False)[0]
    rank = dense.geometry.depth // 2
    for find in (data_basis.from_gram, data_basis.from_svd):
        q = find(dense, x).u[..., :rank]
        np.testing.assert_allclose(
            q @ (q.swapaxes(-1, -2) @ columns),
            lapack[..., :rank] @ (lapack[..., :rank].swapaxes(-1, -2) @ columns),
            atol=1e-8 * np.abs(columns).max(),
        )


@exact
@few_geometries
def test_the_rank_for_an_energy_is_the_smallest_that_keeps_it(geometry, find, rng):
    dense, x, columns = make(rng, geometry)
    squares = (singular_values(columns) ** 2).sum(axis=0)
    kept, found = np.cumsum(squares) / squares.sum(), find(dense, x)
    for energy in (0.3, 0.8, 0.99):
        assert found.rank_for(energy) == 1 + np.count_nonzero(kept < energy)


@enough_columns
def test_a_random_start_and_two_power_iterations_come_within_a_hundredth_of_the_best(geometry, rng):
    for dtype in ("float32", "float64"):
        dense, x, columns = make(rng, geometry, dtype)
        rank = max(1, dense.geometry.depth // 3)
        width = min(dense.geometry.depth, rank + 8)
        start = data_basis.random_start(dense, width, np.random.default_rng(3), np.dtype(dtype))
        q = data_basis.from_iterations(dense, x, start, rank, 1 + 2)
        assert q.shape == (dense.geometry.group, dense.geometry.depth, rank)
        assert_orthonormal(q, 1e-5)
        assert projection_error(columns, q) <= 1.01 * best_error(columns, rank)


@few_columns
def test_subspace_iterations_find_all_of_the_data_where_the_rank_is_no_less_than_its_columns(geometry, rng):
    dense, x, columns = make(rng, geometry)
    for rank in (dense.geometry.columns, dense.geometry.columns + 3):
        start = data_basis.random_start(dense, rank, np.random.default_rng(3), np.dtype("f8"))
        q = data_basis.from_iterations(dense, x, start, rank, 1)
        assert_orthonormal(q)
        assert projection_error(columns, q) < 1e-9 * np.linalg.norm(columns)


@few_columns
def test_subspace_iterations_come_near_the_best_where_there_are_fewer_columns_than_rows(geometry, rng):
    dense, x, columns = make(rng, geometry)
    rank = max(1, min(dense.geometry.columns, dense.geometry.depth) // 2)
    start = data_basis.random_start(dense, dense.geometry.depth, np.random.default_rng(3), np.dtype("f8"))
    q = data_basis.from_iterations(dense, x, start, rank, 1)
    best = best_error(columns, rank)
    assert projection_error(columns, q) == pytest.approx(best, rel=0.01, abs=1e-10)


@enough_columns
def test_one_iteration_from_the_basis_of_a_batch_before_is_nearer_than_from_a_random_one(geometry, rng):
    dense, x, columns = make(rng, geometry)
    rank = max(1, dense.geometry.depth // 3)
    before = x + 0.05 * image_like(rng, x.shape)
    warm_start = data_basis.from_gram(dense, before).u[..., :rank]
    cold_start = data_basis.random_start(dense, rank, np.random.default_rng(3), np.dtype("f8"))
    warm, cold = (
        projection_error(columns, data_basis.from_iterations(dense, x, start, rank, 1))
        for start in (warm_start, cold_start)
    )
    best = best_error(columns, rank)
    assert warm <= 1.001 * best
    assert warm - best < 0.1 * (cold - best)


@enough_columns
def test_more_iterations_come_nearer(geometry, rng):
    dense, x, columns = make(rng, geometry)
    rank = max(1, dense.geometry.depth // 3)
    start = data_basis.random_start(dense, rank, np.random.default_rng(3), np.dtype("f8"))
    errors = [
        projection_error(columns, data_basis.from_iterations(dense, x, start, rank, n)) for n in (0, 1, 3, 40)
    ]
    assert errors[0] > errors[1] > errors[2] > errors[3] * (1 + 1e-9)
    assert errors[3] == pytest.approx(best_error(columns, rank), rel=1e-3)


@few_geometries
def test_the_leading_vectors_of_a_wider_basis_come_first(geometry, rng):
    dense, x, columns = make(rng, geometry)
    start = data_basis.random_start(dense, dense.geometry.depth, np.random.default_rng(3), np.dtype("f8"))
    for rank in ranks_of(dense):
        q = data_basis.from_iterations(dense, x, start, rank, 0)
        slack = 1e-10 * np.linalg.norm(columns)
        assert projection_error(columns, q) == pytest.approx(best_error(columns, rank), rel=1e-9, abs=slack)


@each_geometry
def test_a_basis_as_filters_gives_its_products_with_the_columns(geometry, rng):
    dense, x, columns = make(rng, geometry)
    q = rng.standard_normal((dense.geometry.group, dense.geometry.depth, 3))
    stage = DenseConvolution(replace(dense.geometry, filters=3 * dense.geometry.group), dense.dtype)
    z = np.empty(stage.geometry.output_shape)
    padded = stage.forward(x, data_basis.as_filters(q, dense), z)
    expected = q.swapaxes(-1, -2) @ columns
    np.testing.assert_allclose(
        z.reshape(dense.geometry.group, 3, -1), expected, atol=1e-11 * np.abs(expected).max()
    )
    products = data_basis.times_hidden(stage, padded, z)
    expected = columns @ expected.swapaxes(-1, -2)
    np.testing.assert_allclose(products, expected, atol=1e-11 * np.abs(expected).max())


@each_geometry
def test_a_step_after_a_forward_pass_is_one_subspace_iteration_from_the_basis_that_it_used(geometry, rng):
    dense, x, columns = make(rng, geometry)
    rank = max(1, min(dense.geometry.depth, dense.geometry.columns) // 3)
    scheme = ChannelScheme(dense.geometry.weight_shape, dense.geometry.group)
    q = orthonormal(rng.standard_normal((dense.geometry.group, dense.geometry.depth, rank)))
    product = TwoStage(dense, scheme, rank)
    filters = scheme.filters(rng.standard_normal((dense.geometry.group, 2, rank)), q.swapaxes(-1, -2))
    product.forward(x, filters, np.empty(dense.geometry.output_shape))
    stepped = data_basis.subspace_step(product.first, product.padded, product.hidden)
    assert_orthonormal(stepped)
    expected = orthonormal(columns @ (columns.swapaxes(-1, -2) @ q))
    np.testing.assert_allclose(
        stepped @ stepped.swapaxes(-1, -2), expected @ expected.swapaxes(-1, -2), atol=1e-8
    )


@pytest.mark.parametrize("geometry", [GEOMETRIES["padded"], GEOMETRIES["groups"], GEOMETRIES["1×1"]])
def test_data_that_are_zero_give_an_orthonormal_basis_and_no_energy(geometry, rng):
    dense, x, _ = make(rng, geometry, "float32")
    zeros = np.zeros_like(x)
    for find in (data_basis.from_gram, data_basis.from_svd):
        found = find(dense, zeros)
        assert_orthonormal(found.u, 1e-6)
        assert not found.s.any() and found.rank_for(0.9) == 1
    start = data_basis.random_start(dense, 4, np.random.default_rng(0), np.dtype("f4"))
    assert_orthonormal(data_basis.from_iterations(dense, zeros, start, 3, 2), 1e-5)


@pytest.mark.parametrize("power_iterations", [0, 2])
def test_the_first_randomized_basis_of_a_layer_takes_one_iteration_more_and_later_ones_start_from_it(
    make_net, power_iterations, rng
):
    settings = f"rank: 3, target: data, refresh: 1, method: randomized, power_iterations: {power_iterations}"
    net = make_net(PLAIN.text(settings + ", oversampling: 1"), phase="train", seed=2, dtype="float64")
    twin = make_net(PLAIN.text(settings + ", oversampling: 1"), phase="train", seed=2, dtype="float64")
    dense = layer_of(twin).low_rank.dense[0]
    basis = data_basis.random_start(dense, 4, layer_of(twin).rng, np.dtype("f8"))
    for iterations in (power_iterations + 1, max(1, power_iterations)):
        output(net, PLAIN.random_input(rng))
        columns = data_matrix(PLAIN, net)
        for _ in range(iterations):
            basis = columns @ (columns.swapaxes(-1, -2) @ orthonormal(basis))
        basis = orthonormal(basis)
        basis = basis @ np.linalg.svd(basis.swapaxes(-1, -2) @ columns)[0][..., :3]
        np.testing.assert_allclose(span(net.params["conv"][-1].data), span(basis), atol=1e-9)


def test_a_random_start_is_its_seeds(rng):
    dense, *_ = make(rng, GEOMETRIES["groups"], "float32")
    one, same, other = (
        data_basis.random_start(dense, 5, np.random.default_rng(seed), np.dtype("f4")) for seed in (1, 1, 2)
    )
    assert (one.shape, one.dtype) == ((2, 27, 5), np.float32)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
