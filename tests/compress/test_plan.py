"""The schemes that a layer has, and which rank a share of its cost or of its full rank is."""

import pytest

import minicaffe as mc
from minicaffe.compress.plan import LayerRank, candidate
from minicaffe.compress.rules import Rule, resolve

pytestmark = pytest.mark.cpu_only("of shapes and numbers of Python")


def net_of(settings):
    return mc.Net.from_text(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 12, 9, 9]}}}\n"
        f"- {{name: y, type: Convolution, convolution_param: {{num_output: 16, {settings}}}}}\n"
    )


WINDOWS = {
    "kernel_size: 1": False,
    "kernel_size: 1, stride: 2": False,
    "kernel_size: 1, pad: 1": False,
    "kernel_size: 1, group: 2": False,
    "kernel_size: 3": True,
    "kernel_h: 3, kernel_w: 1": True,
    "kernel_h: 1, kernel_w: 3, stride: 2": True,
}


@pytest.mark.parametrize(("window", "is_spatial"), WINDOWS.items())
def test_a_window_of_one_pixel_has_no_spatial_scheme_however_it_moves(window, is_spatial):
    net = net_of(window)
    found = candidate(net.steps[-1])
    assert [found.has(scheme) for scheme in ("CHANNEL", "SPATIAL", "BASIS")] == [True, is_spatial, True]
    scheme = "SPATIAL" if is_spatial else "CHANNEL"
    assert found.possible("SPATIAL") == scheme
    assert resolve(net, [Rule(["y"], "rank", 2)], scheme="SPATIAL")["y"].choice == LayerRank(scheme, 2)


@pytest.mark.parametrize("scheme", ["CHANNEL", "SPATIAL", "BASIS"])
def test_a_share_that_is_what_a_rank_costs_is_that_rank_whatever_the_rounding(scheme):
    for kernel in range(2, 8):
        found = candidate(net_of(f"kernel_size: {kernel}").steps[-1])
        rank = 1
        while (share := found.share(LayerRank(scheme, rank))) < 1 and rank <= found.full_rank(scheme):
            assert found.rank_for(scheme, share) == rank
            assert found.rank_for(scheme, share * (1 - 1e-9)) == max(1, rank - 1)
            rank += 1
        assert rank > 4


def test_a_fraction_of_the_full_rank_is_rounded_and_at_least_1():
    found = candidate(net_of("kernel_size: 3").steps[-1])  # of 16, and of 108 rows of data
    assert [found.part_of_rank("CHANNEL", part) for part in (0.01, 0.28, 0.3, 1)] == [1, 4, 5, 16]
    assert [found.part_of_rank("BASIS", part) for part in (0.001, 0.25, 1)] == [1, 27, 108]
