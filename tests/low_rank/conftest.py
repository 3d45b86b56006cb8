"""What tests of low-rank layers are given: nets with the same weights, dense and of low rank."""

import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net


@pytest.fixture(scope="module")
def dense_file(tmp_path_factory):
    """The file of a case's dense layer, written once."""
    folder, paths = tmp_path_factory.mktemp("dense"), {}

    def find(case):
        if case not in paths:
            paths[case] = folder / f"{len(paths)}.npz"
            mc.Net(parse_net(case.text()), seed=3, dtype="float64").save(paths[case])
        return paths[case]

    return find


@pytest.fixture
def make_pair(make_net, dense_file):
    """A dense net, and a net of low rank that has its weights, from its file."""

    def make(case, low_rank, phase="test", dtype="float32"):
        dense, low = (
            make_net(text, weights=dense_file(case), phase=phase, seed=4, dtype=dtype)
            for text in (case.text(), case.text(low_rank))
        )
        return dense, low

    return make
