"""The rank of a low-rank layer, from a number, a fraction, energy or flops; its cost, and what a summary says."""

import numpy as np
import pytest

from tests.low_rank.low_rank_cases import (
    GROUPS,
    INNER,
    PLAIN,
    assert_close,
    bias_of,
    canonical,
    data_matrix,
    each_scheme,
    layer_of,
    output,
    output_matrix,
    output_of_weights,
    projected,
    rank_for,
    set_weights,
    some_cases,
    truncated,
)

# fixtures, which pytest finds under these names


@each_scheme
@pytest.mark.parametrize(
    ("fraction", "ranks"),
    [(0.001, (1, 1)), (0.25, (2, 3)), (0.999, (6, 12))],
)
@pytest.mark.parametrize("factored", ["", ", factored: true"], ids=["truncated", "factored"])
def test_a_fraction_for_a_rank_is_that_part_of_the_full_rank(
    make_pair, scheme, fraction, ranks, factored, rng
):
    rank = ranks[scheme == "spatial"]
    dense, low = make_pair(PLAIN, f"rank: {fraction}, scheme: {scheme}{factored}")
    assert layer_of(low).low_rank.rank == rank
    x = PLAIN.random_input(rng)
    w = truncated(canonical(PLAIN, dense.params["conv"][0]), 1, rank, scheme)
    assert_close(output(low, x), output_of_weights(PLAIN, dense, w, x))


@pytest.mark.parametrize(("fraction", "rank"), [(0.01, 1), (0.25, 9), (0.99, 36)])
def test_a_fraction_for_a_rank_of_the_data_is_that_part_of_the_data_matrix_rows(make_net, fraction, rank):
    net = make_net(PLAIN.text(f"rank: {fraction}, target: data"))
    assert layer_of(net).low_rank.rank == rank
    assert net.params["conv"][-1].shape == (1, 36, rank)


# (case, settings, multiply-adds of one image: of rank 1 in two stages, of the dense layer), counted by hand
COSTS = {
    "channel": (PLAIN, "", 36 * 12 + 6 * 12, 6 * 36 * 12),
    "spatial": (PLAIN, ", scheme: spatial", 12 * (4 * 5) + 18 * (4 * 3), 6 * 36 * 12),
    "data": (PLAIN, ", target: data", 36 * 12 + 6 * 12, 6 * 36 * 12),
    "groups": (GROUPS, "", 2 * 27 * 25 + 8 * 25, 8 * 27 * 25),
    "factored": (PLAIN, ", factored: true", 36 * 12 + 6 * 12, 6 * 36 * 12),
    "inner product": (INNER, "", 12 + 7, 7 * 12),
}
each_cost = pytest.mark.parametrize(("case", "settings", "rank_1", "whole"), COSTS.values(), ids=COSTS)


@pytest.mark.parametrize("share", [0.3, 0.8])
@each_cost
def test_flops_is_the_largest_rank_that_costs_at_most_this_share(
    make_net, case, settings, rank_1, whole, share
):
    layer = layer_of(make_net(case.text(f"flops: {share}{settings}")))
    rank = layer.low_rank.rank
    assert rank >= 1
    assert rank * rank_1 <= share * whole < (rank + 1) * rank_1
    assert layer.multiply_adds(None, None) == rank * rank_1


@each_cost
def test_flops_that_a_rank_costs_exactly_is_that_rank(make_net, case, settings, rank_1, whole):
    for rank in range(1, case.full_rank(settings) + 1):
        net = make_net(case.text(f"flops: {rank * rank_1 / whole!r}{settings}"))
        assert layer_of(net).low_rank.rank == rank


@each_cost
def test_flops_beyond_the_full_rank_is_the_full_rank_and_costs_no_more_than_dense(
    make_net, case, settings, rank_1, whole
):
    layer = layer_of(make_net(case.text(f"flops: 1e6{settings}")))
    assert layer.low_rank.rank == case.full_rank(settings)
    assert layer.multiply_adds(None, None) == whole


@pytest.mark.parametrize(
    ("case", "method", "phase"), [(PLAIN, "svd", "test"), (GROUPS, "gram", "train"), (INNER, "svd", "train")]
)
@pytest.mark.parametrize("energy", [0.2, 0.6, 0.9])
def test_with_energy_the_rank_is_the_smallest_that_keeps_it_and_follows_the_weights(
    make_pair, case, energy, method, phase, rng
):
    dense, low = make_pair(case, f"energy: {energy}, method: {method}", phase)
    ranks = []
    for scale in (1, 20):
        w = canonical(case, dense.params["conv"][0])
        w[0] *= scale
        set_weights(case, low, w)
        x = case.random_input(rng)
        y = output(low, x)
        rank = rank_for(w.reshape(case.group, len(w) // case.group, -1), energy)
        assert layer_of(low).low_rank.rank == rank
        assert_close(y, output_of_weights(case, dense, truncated(w, case.group, rank), x))
        ranks.append(rank)
    assert ranks[1] <= ranks[0] and (ranks[1] < ranks[0] or ranks[0] == 1)


@pytest.mark.parametrize("energy", [0.6, 0.9])
@some_cases
def test_with_energy_of_the_data_the_rank_is_the_smallest_that_keeps_it_of_the_batch(
    make_pair, case, energy, rng
):
    dense, low = make_pair(case, f"energy: {energy}, target: data, refresh: 1", "train", "float64")
    w, ranks = canonical(case, dense.params["conv"][0]), []
    for scale in (1, 30):
        x = case.random_input(rng)
        x[0] *= scale
        y = output(low, x)
        columns = data_matrix(case, low)
        rank = rank_for(columns, energy)
        assert layer_of(low).low_rank.rank == rank
        q = np.linalg.svd(columns)[0][..., :rank]
        assert_close(output_matrix(case, y), projected(case, low, w, bias_of(case, low), q), 1e-8)
        ranks.append(rank)
    assert ranks[0] != ranks[1]


def test_at_test_a_layer_that_has_no_weight_basis_yet_has_the_rank_that_its_energy_asks_for(make_net, rng):
    one, other = (make_net(PLAIN.text(f"energy: 0.5{more}"), seed=1) for more in ("", ", refresh: 3"))
    for net in (one, other):
        output(net, PLAIN.random_input(rng))
    assert layer_of(one).low_rank.rank < 6
    assert layer_of(other).low_rank.rank == layer_of(one).low_rank.rank
    assert layer_of(other).note == layer_of(one).note


def warnings_of(caplog, layer):
    return [r.getMessage() for r in caplog.records if f"Layer '{layer}'" in r.getMessage()]


def test_a_rank_that_costs_more_than_dense_is_warned_of_once_for_each_layer(make_net, caplog):
    text = PLAIN.text("rank: 6") + (
        "- {name: cheap, type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, pad: 1}, "
        "low_rank_param: {rank: 2}}\n"
        "- {name: dear, type: InnerProduct, inner_product_param: {num_output: 7}, low_rank_param: {rank: 7}}\n"
        "- {name: unknown, type: InnerProduct, inner_product_param: {num_output: 7}, low_rank_param: {energy: 1}}\n"
    )
    net = make_net(text)
    for shape in ((2, 4, 6, 5), (3, 4, 6, 5), (2, 4, 6, 5)):
        net.blobs["x"].reshape(*shape)
        net.reshape()
        net.run_forward()
    assert warnings_of(caplog, "conv") == [
        "Layer 'conv': rank 6 costs 1.17 of the dense layer; the factors are multiplied first, which costs 1.00"
    ]
    assert len(warnings_of(caplog, "dear")) == 1
    assert not warnings_of(caplog, "cheap") and not warnings_of(caplog, "unknown")


NOTES = {
    "channel": (PLAIN, "rank: 2", "rank 2 of 6, channel, 0.39 of dense"),
    "channel, as dense": (PLAIN, "rank: 6", "rank 6 of 6, channel, 1.17 of dense, so computed as dense"),
    "spatial": (PLAIN, "rank: 3, scheme: spatial", "rank 3 of 12, spatial, 0.53 of dense"),
    "data": (PLAIN, "rank: 3, target: data", "rank 3 of 36, data, 0.58 of dense"),
    "data, as dense": (
        PLAIN,
        "rank: 9, target: data",
        "rank 9 of 36, data, 1.75 of dense, so computed as dense",
    ),
    "factored": (PLAIN, "rank: 2, factored: true", "rank 2 of 6, channel, 0.39 of dense"),
    "held": (PLAIN, "rank: 2, refresh: 3", "rank 2 of 6, channel, 0.39 of dense"),
    "flops": (PLAIN, "flops: 0.6", "rank 3 of 6, channel, 0.58 of dense"),
    "fraction": (PLAIN, "rank: 0.5", "rank 3 of 6, channel, 0.58 of dense"),
    "groups": (GROUPS, "rank: 1", "rank 1 of 4, channel, 0.29 of dense"),
    "inner product": (INNER, "rank: 2", "rank 2 of 7, channel, 0.45 of dense"),
}


@pytest.mark.parametrize(("case", "low_rank", "note"), NOTES.values(), ids=NOTES)
def test_the_note_says_the_rank_and_what_it_costs(make_net, case, low_rank, note):
    net = make_net(case.text(low_rank))
    assert layer_of(net).note == note
    net.run_forward()
    assert layer_of(net).note == note


def test_with_energy_the_note_says_the_rank_that_was_found(make_pair, rng):
    _, low = make_pair(PLAIN, "energy: 0.5")
    output(low, PLAIN.random_input(rng))
    rank = rank_for(low.params["conv"][0].data.reshape(1, 6, 36), 0.5)
    assert layer_of(low).note == f"rank {rank} of 6, channel, {rank * 42 / 216:.2f} of dense"
    assert layer_of(low).multiply_adds(None, None) == rank * (36 + 6) * 12


def test_multiply_adds_of_a_net_that_is_reshaped_are_those_of_its_images(make_net):
    net = make_net(PLAIN.text("rank: 2"))
    assert layer_of(net).multiply_adds(None, None) == 2 * (36 + 6) * 12
    net.blobs["x"].reshape(1, 4, 10, 9)
    net.reshape()
    assert layer_of(net).multiply_adds(None, None) == 2 * (36 + 6) * 56
