"""Ranks that train together have one basis of the data: that of all their images."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import SpecError
from tests.low_rank.low_rank_cases import CASES, GROUPS, INNER, PLAIN, layer_of, span
from tests.thread_ranks import ThreadRanks

SETTINGS = {
    "gram": "rank: 3",
    "merged": "rank: 9",
    "randomized": "rank: 3, method: randomized, power_iterations: 3",
    "energy": "energy: 0.5",
}
ITERATIONS = 5  # with 'refresh: 3': two bases are made, and turned three times


def steps(net, batches):
    """What some iterations leave: of each y and dw, and the last basis."""
    found = []
    for x, dy in batches:
        net.clear_param_diffs()
        y = net.forward(x=x)["conv"]
        net.backward(conv=dy)
        w = net.params["conv"][0]
        found.append([mc.to_host(y), mc.to_host(w.diff).copy(), layer_of(net).low_rank.rank])
        w.data[...] = 1.1 * w.data
    return found, mc.to_host(net.params["conv"][-1].data)


def batches_of(case, images, rng):
    """Iterations of x and dy of all images, which differ in kind from rank to rank."""
    found = []
    dense = mc.Net.from_text(case.text(shape=(sum(images), *case.shape[1:])))
    shapes = [dense.blobs[name].shape for name in ("x", "conv")]
    for _ in range(ITERATIONS):
        x, dy = (rng.standard_normal(shape) for shape in shapes)
        x[: images[0]] *= np.linspace(0, 4, x.shape[-1])
        found.append((x, dy))
    return found


@pytest.mark.parametrize("images", [(2, 2), (1, 3, 2)], ids=str)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    "case", [PLAIN, GROUPS, INNER, CASES["strided"]], ids=["plain", "groups", "inner", "strided"]
)
def test_ranks_have_the_basis_of_one_process_with_all_images(case, setting, images, rng):
    low_rank = f"{SETTINGS[setting]}, target: data, refresh: 3"
    if case is INNER:  # which has a column of data for each image
        images = [8 * count for count in images]
    batches, bounds = batches_of(case, images, rng), np.cumsum((0, *images))

    def trained(part, **more):
        text = case.text(low_rank, shape=(part.stop - part.start, *case.shape[1:]))
        net = mc.Net.from_text(text, phase="train", seed=5, dtype=np.float64, **more)
        return steps(net, [(x[part], dy[part]) for x, dy in batches])

    parts = [slice(int(bounds[r]), int(bounds[r + 1])) for r in range(len(images))]
    of_ranks = ThreadRanks(len(images)).run(lambda ranks: trained(parts[ranks.rank], communicator=ranks))
    whole, basis = trained(slice(0, sum(images)))
    for i, (y, dw, rank) in enumerate(whole):
        assert all(found[i][2] == rank for found, _ in of_ranks)
        np.testing.assert_allclose(np.concatenate([found[i][0] for found, _ in of_ranks]), y, atol=1e-8)
        np.testing.assert_allclose(sum(found[i][1] for found, _ in of_ranks), dw, atol=1e-8)
    for _, its in of_ranks:
        assert np.array_equal(its, of_ranks[0][1])
        np.testing.assert_allclose(span(its), span(basis), atol=1e-8)


@pytest.mark.parametrize("method", ["gram", "randomized"])
def test_a_basis_is_that_of_rank_0_whatever_signs_its_vectors_have_elsewhere(method, rng):
    x = rng.standard_normal((2, *PLAIN.shape))

    def on(ranks, sign):
        text = PLAIN.text(f"rank: 3, target: data, refresh: 3, method: {method}")
        net = mc.Net.from_text(text, phase="train", seed=5, dtype=np.float64, communicator=ranks)
        factors, bases = layer_of(net).low_rank.factors, []
        own = factors._basis_of
        factors._basis_of = lambda x: sign**ranks.rank * own(x)
        for _ in range(4):
            net.forward(x=x[ranks.rank])
            bases.append(mc.to_host(net.params["conv"][-1].data).copy())
        return bases

    same, other = (ThreadRanks(2).run(lambda ranks, sign=sign: on(ranks, sign)) for sign in (1, -1))
    assert np.array_equal(same, other)


def test_the_svd_of_a_data_matrix_is_of_one_rank(rng):
    def net_of(method, **more):
        return mc.Net.from_text(PLAIN.text(f"rank: 3, target: data, method: {method}"), phase="train", **more)

    one, two = (ThreadRanks(size).communicators[0] for size in (1, 2))
    net_of("svd", communicator=one)
    net_of("gram", communicator=two)
    with pytest.raises(
        SpecError, match=r"low_rank_param.method: 'svd' needs the data of all ranks .* use 'gram'"
    ):
        net_of("svd", communicator=two)


def test_what_is_of_the_weights_is_not_talked_about(rng):
    ranks, x = ThreadRanks(2), PLAIN.random_input(rng)

    def on(communicator):
        text = PLAIN.text("rank: 3, refresh: 2, method: randomized")
        net = mc.Net.from_text(text, phase="train", seed=5, dtype=np.float64, communicator=communicator)
        return [mc.to_host(net.forward(x=x)["conv"]) for _ in range(3)]

    one, other = ranks.run(on)
    assert np.array_equal(one, other) and not ranks.calls
