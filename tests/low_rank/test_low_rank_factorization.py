"""Factorizations: the error that they name is LAPACK's tail, and the error that they make."""

import numpy as np
import pytest

from minicaffe.low_rank.factorization import find_range, gram, orthonormal, randomized, svd

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

SHAPES = {
    "tall": (40, 12),
    "wide": (12, 40),
    "square": (20, 20),
    "row": (1, 9),
    "column": (9, 1),
    "number": (1, 1),
    "wide groups": (3, 10, 24),
    "tall groups": (2, 24, 10),
    "depthwise": (6, 1, 9),
}
EXACT = {"svd": svd, "gram": gram}
EACH = {**EXACT, "randomized": lambda x: randomized(x, min(x.shape[-2:]), np.random.default_rng(1))}
SPECTRA = {"1/i": 1 / np.arange(1, 201), "0.97**i": 0.97 ** np.arange(200)}
TOLERANCE = {"float32": 1e-6, "float64": 1e-10}

FEW_SHAPES = {name: SHAPES[name] for name in ("tall", "number", "wide groups", "depthwise")}

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
few_shapes = pytest.mark.parametrize("shape", FEW_SHAPES.values(), ids=FEW_SHAPES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
exact = pytest.mark.parametrize("factorize", EXACT.values(), ids=EXACT)
each = pytest.mark.parametrize("factorize", EACH.values(), ids=EACH)


def random_matrix(rng, shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


def matrix_with(rng, singular_values, rows, columns, dtype="float64"):
    """A random matrix with these singular values."""
    singular_values = singular_values[: min(rows, columns)]
    count = len(singular_values)
    left, right = (np.linalg.qr(rng.standard_normal((n, count)))[0] for n in (rows, columns))
    return ((left * singular_values) @ right.T).astype(dtype)


def squares_of(x):
    """LAPACK's squared singular values, in float64, added up over the stack."""
    s = np.linalg.svd(x.astype("f8"), compute_uv=False)
    return (s.reshape(-1, s.shape[-1]) ** 2).sum(axis=0)


def tail_of(x, rank):
    return np.sqrt(squares_of(x)[rank:].sum())


def distance(x, found):
    """‖X − left·right‖, in float64."""
    left, right = (factor.astype("f8") for factor in found.factors())
    return np.linalg.norm(x.astype("f8") - left @ right)


def assert_orthonormal(columns, tolerance=1e-10):
    product = columns.swapaxes(-1, -2) @ columns
    np.testing.assert_allclose(
        product, np.broadcast_to(np.eye(columns.shape[-1]), product.shape), atol=tolerance
    )


@dtypes
@exact
@few_shapes
def test_error_of_a_truncated_factorization_is_the_tail_of_the_singular_values(shape, factorize, dtype, rng):
    x = random_matrix(rng, shape, dtype)
    found = factorize(x)
    for rank in range(found.rank):
        assert found.truncate(rank).tail ** 0.5 == pytest.approx(tail_of(x, rank), rel=TOLERANCE[dtype])
    assert found.truncate(found.rank).tail == 0


@exact
@shapes
def test_the_error_that_is_named_is_the_distance_of_the_factors_product(shape, factorize, rng):
    for dtype, tolerance in TOLERANCE.items():
        x = random_matrix(rng, shape, dtype)
        found = factorize(x)
        for rank in range(1, found.rank + 1):
            kept = found.truncate(rank)
            left, right = kept.factors()
            assert (left.shape, right.shape) == ((*shape[:-1], rank), (*shape[:-2], rank, shape[-1]))
            assert distance(x, kept) == pytest.approx(
                kept.tail**0.5, abs=tolerance * float(np.linalg.norm(x))
            )


@each
@shapes
def test_all_triplets_give_the_matrix_back_in_orthonormal_vectors_and_descending_values(
    shape, factorize, rng
):
    for dtype in TOLERANCE:
        x = random_matrix(rng, shape, dtype)
        found = factorize(x)
        tolerance = 10 * TOLERANCE[dtype]
        assert {a.dtype for a in (found.u, found.s, found.vt)} == {np.dtype(dtype)}
        np.testing.assert_allclose(
            found.s, np.linalg.svd(x.astype("f8"), compute_uv=False), rtol=tolerance, atol=tolerance
        )
        assert (np.diff(found.s) <= 0).all()
        assert distance(x, found) < tolerance * np.linalg.norm(x)
        assert_orthonormal(found.u, tolerance)
        assert_orthonormal(found.vt.swapaxes(-1, -2), 10 * tolerance)


@exact
@few_shapes
def test_the_factors_share_the_singular_values_evenly(shape, factorize, rng):
    left, right = factorize(random_matrix(rng, shape)).factors()
    np.testing.assert_allclose(
        np.linalg.norm(left, axis=-2), np.linalg.norm(right, axis=-1), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_product_of_the_factors_is_lapacks_truncation(rank, rng):
    x = random_matrix(rng, (2, 9, 14))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    expected = (u[..., :rank] * s[..., None, :rank]) @ vt[..., :rank, :]
    for factorize in EXACT.values():
        left, right = factorize(x).truncate(rank).factors()
        np.testing.assert_allclose(left @ right, expected, atol=1e-12)


@dtypes
@exact
@few_shapes
def test_energy_is_the_kept_share_of_the_squared_singular_values(shape, factorize, dtype, rng):
    x = random_matrix(rng, shape, dtype)
    found, squares = factorize(x), squares_of(x)
    for rank in range(1, found.rank + 1):
        share = squares[:rank].sum() / squares.sum()
        assert found.truncate(rank).energy == pytest.approx(share, abs=TOLERANCE[dtype])
    assert float(found.total) == pytest.approx(squares.sum(), rel=TOLERANCE[dtype])


@exact
@shapes
def test_rank_for_is_the_smallest_rank_that_keeps_the_energy(shape, factorize, rng):
    x = random_matrix(rng, shape, "float32")
    kept, found = np.cumsum(squares_of(x)) / squares_of(x).sum(), factorize(x)
    for energy in (1e-9, 0.1, 0.5, 0.9, 0.99):
        assert np.abs(kept - energy).min() > 1e-6, "so near to a boundary, rounding decides"
        assert found.rank_for(energy) == 1 + np.count_nonzero(kept < energy)


@pytest.mark.parametrize(
    ("energy", "rank"),
    [
        (0.4, 1),
        (0.4 + 1e-9, 2),
        (0.7, 2),
        (0.7 + 1e-9, 3),
        (0.9 - 1e-9, 3),
        (0.9, 3),
        (0.9 + 1e-9, 4),
        (1, 4),
    ],
)
def test_rank_for_an_energy_that_a_rank_keeps_exactly_is_that_rank(energy, rank):
    x = np.diag(np.sqrt([2.0, 4.0, 1.0, 3.0]))
    stack = np.stack([np.diag(np.sqrt([0.0, 1.0, 3.0, 2.0])), np.eye(4)])
    for factorize in EXACT.values():
        assert factorize(x).rank_for(energy) == rank
        assert factorize(stack).rank_for(energy) == rank


@pytest.mark.parametrize("rank", [1, 5])
def test_the_whole_energy_of_a_matrix_of_low_rank_is_in_that_rank(rank, rng):
    assert svd(matrix_with(rng, np.linspace(2, 1, rank), 12, 17)).rank_for(1) == rank


def test_rank_for_more_energy_than_is_left_after_a_truncation_is_all_that_is_left():
    assert svd(np.diag([3.0, 2.0, 1.0])).truncate(2).rank_for(0.99) == 2


@dtypes
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_a_randomized_factorization_comes_within_a_hundredth_of_the_best_error(spectrum, dtype, rng):
    x = matrix_with(rng, spectrum, 200, 300, dtype)
    best = tail_of(x, 20)
    for seed in range(3):
        found = randomized(x, 20, np.random.default_rng(seed), power_iterations=2)
        assert found.rank == 20
        assert best * (1 - 1e-6) <= distance(x, found) <= 1.01 * best
        assert found.tail**0.5 == pytest.approx(distance(x, found), rel=1e-5)


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_each_power_iteration_brings_a_randomized_factorization_nearer(spectrum, rng):
    x = matrix_with(rng, spectrum, 60, 90)
    errors = [
        np.mean([randomized(x, 10, np.random.default_rng(seed), power, 2).tail ** 0.5 for seed in range(3)])
        for power in (0, 1, 2, 4)
    ]
    assert errors[0] > errors[1] > errors[2] > errors[3] > tail_of(x, 10)


@few_shapes
def test_a_randomized_factorization_with_as_many_vectors_as_the_matrix_has_is_exact(shape, rng):
    x = random_matrix(rng, shape)
    rank = max(1, min(shape[-2:]) - 3)
    found = randomized(x, rank, np.random.default_rng(0), power_iterations=0, oversampling=3)
    assert found.rank == rank
    assert distance(x, found) == pytest.approx(tail_of(x, rank), rel=1e-10, abs=1e-12)


def test_a_rank_beyond_the_matrix_is_cut_to_what_it_has(rng):
    found = randomized(random_matrix(rng, (5, 8)), 7, np.random.default_rng(0))
    assert (found.u.shape, found.s.shape, found.vt.shape) == ((5, 5), (5,), (5, 8))


def test_equal_seeds_give_equal_factorizations_and_others_do_not(rng):
    x = random_matrix(rng, (20, 30))
    one, same, other = (randomized(x, 3, np.random.default_rng(s), 0, 0).u for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


@each
@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_a_matrix_of_too_low_a_rank_gives_finite_factors_that_give_it_back(factorize, turned, rng):
    for dtype in TOLERANCE:
        x = np.stack([matrix_with(rng, [2, 1], 8, 13, dtype), matrix_with(rng, [3], 8, 13, dtype)])
        x = x.swapaxes(-1, -2) if turned else x
        found = factorize(x)
        assert all(np.isfinite(a).all() for a in (found.u, found.s, found.vt))
        tolerance = 10 * TOLERANCE[dtype] * np.linalg.norm(x)
        for rank in (2, found.rank):
            assert distance(x, found.truncate(rank)) < tolerance
        assert found.truncate(1).tail ** 0.5 == pytest.approx(1, rel=1e-3)


@each
@few_shapes
def test_a_matrix_of_zeros_gives_finite_factors_and_no_error(shape, factorize):
    found = factorize(np.zeros(shape, "float32"))
    assert all(np.isfinite(a).all() for a in (found.u, found.s, found.vt, *found.factors()))
    assert not found.s.any()
    assert (found.tail, found.energy, found.rank_for(0.9)) == (0, 1, 1)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
@each
def test_very_small_and_very_large_float32_matrices_are_factorized_like_others(factorize, scale, rng):
    x = random_matrix(rng, (6, 9)) * scale
    found = factorize(x.astype("f4"))
    np.testing.assert_allclose(found.s / scale, np.linalg.svd(x / scale, compute_uv=False), rtol=1e-5)
    assert distance(x.astype("f4"), found) < 1e-5 * np.linalg.norm(x)


def test_truncations_of_a_truncation_add_their_errors(rng):
    found = svd(random_matrix(rng, (7, 12)))
    twice, once = found.truncate(5).truncate(2), found.truncate(2)
    assert twice.tail == pytest.approx(once.tail, rel=1e-12)
    np.testing.assert_array_equal(twice.vt, once.vt)
    assert twice.energy == pytest.approx(once.energy, rel=1e-12)


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_find_range_applies_the_operator_once_an_iteration_to_orthonormal_vectors(iterations, rng):
    x, seen = random_matrix(rng, (2, 9, 15)), []

    def apply(q):
        seen.append(q)
        return x @ (x.swapaxes(-1, -2) @ q)

    basis = find_range(apply, random_matrix(rng, (2, 9, 3)), iterations)
    assert len(seen) == iterations
    for q in (*seen, basis):
        assert_orthonormal(q)


def test_find_range_turns_any_start_to_the_leading_vectors(rng):
    x = matrix_with(rng, [8, 7, 6, 1, 0.5, 0.2], 12, 20)
    leading = np.linalg.svd(x)[0][:, :3]
    basis = find_range(lambda q: x @ (x.T @ q), random_matrix(rng, (12, 3)), 12)
    np.testing.assert_allclose(basis @ basis.T, leading @ leading.T, atol=1e-10)


@pytest.mark.parametrize("shape", [(9, 4), (9, 9), (7, 1), (3, 8, 5)])
def test_orthonormal_columns_span_what_the_given_ones_span(shape, rng):
    a = random_matrix(rng, shape)
    q = orthonormal(a)
    assert q.shape == shape
    assert_orthonormal(q)
    np.testing.assert_allclose(q @ (q.swapaxes(-1, -2) @ a), a, atol=1e-12)


def test_orthonormal_makes_as_many_vectors_of_dependent_columns(rng):
    a = random_matrix(rng, (8, 1)) @ random_matrix(rng, (1, 4))
    for columns in (a, np.zeros((8, 4))):
        assert_orthonormal(orthonormal(columns))
