"""Fillers: the values of real Caffe where nothing is random, its distribution where something is."""

import numpy as np
import pytest
import yaml

from minicaffe.core.blob import Blob
from minicaffe.core.fillers import FillerParam, fill
from minicaffe.errors import SpecError
from minicaffe.spec.reader import Where, parse_yaml
from tests.golden_files import recorded

CASES = recorded("fillers")


def filled(case):
    text = yaml.safe_dump(yaml.safe_load(str(case["filler"])))
    blob = Blob([int(d) for d in case["shape"]], batch_last=False)
    fill(blob, FillerParam.read(parse_yaml(text, "filler"), Where("filler")), blob.device.rng(1))
    return blob.data


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "values" in case])
def test_a_filler_without_chance_gives_caffes_values(name):
    np.testing.assert_allclose(filled(CASES[name]), CASES[name]["values"], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "values" not in case])
def test_a_random_filler_has_caffes_distribution(name):
    case, values = CASES[name], filled(CASES[name]).astype(np.float64)
    spread, count = float(case["std"]), values.size
    assert abs(values.mean() - float(case["mean"])) < 6 * spread / np.sqrt(count)
    assert abs(values.std() - spread) < 0.05 * spread
    assert abs(np.count_nonzero(values) - int(case["nonzero"])) <= 6 * np.sqrt(count)
    if yaml.safe_load(str(case["filler"]))["type"] not in ("gaussian", "msra", "positive_unitball"):
        assert values.min() == pytest.approx(float(case["min"]), rel=0.01, abs=0.01 * spread)
        assert values.max() == pytest.approx(float(case["max"]), rel=0.01, abs=0.01 * spread)


@pytest.mark.parametrize("name", ["positive_unitball", "positive_unitball_conv"])
def test_each_slice_of_a_positive_unitball_sums_to_1(name):
    values = filled(CASES[name])
    np.testing.assert_allclose(values.reshape(len(values), -1).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(CASES[name]["row_sums"], 1, rtol=1e-5)
    assert (values > 0).all()


def test_a_bilinear_filler_refuses_a_kernel_that_is_not_square():
    param, blob = FillerParam(type="bilinear"), Blob((1, 1, 3, 4), batch_last=False)
    with pytest.raises(SpecError, match="square"):
        fill(blob, param, blob.device.rng(1))


@pytest.mark.parametrize("kind", ["constant", "uniform", "gaussian", "xavier", "msra", "positive_unitball"])
def test_every_filler_fills_a_scalar(kind):
    blob = Blob((), batch_last=False)
    fill(blob, FillerParam(type=kind, value=2.0), blob.device.rng(1))
    assert np.isfinite(blob.data)
