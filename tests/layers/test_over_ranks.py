"""``sync: true``: ranks compute together what one process with all their images does."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core import chains, units
from minicaffe.device.array import current_device
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.over_ranks import OverRanks
from minicaffe.testing import check_gradients
from tests.core.test_chains import is_watched_itself
from tests.thread_ranks import ThreadRanks

SCALE = (
    "- {name: scale, type: Scale, bottom: y, top: y, scale_param: {bias_term: true,"
    " filler: {type: uniform, min: -1, max: 1}, bias_filler: {type: gaussian}}}\n"
)
RELU = "- {name: relu, type: ReLU, bottom: y, top: y, relu_param: {negative_slope: 0.3}}\n"
LAYERS = {
    "BatchNorm": "- {name: bn, type: BatchNorm, bottom: x, top: y, batch_norm_param: {PARAM}}\n",
    "BN": "- {name: bn, type: BN, bottom: x, top: y, bn_param: {PARAM, slope_filler: {type: gaussian}}}\n",
    "NVIDIA's": "- {name: bn, type: BatchNorm, bottom: x, top: y, batch_norm_param: {PARAM, "
    "scale_filler: {type: gaussian}}}\n",
    "SegNet's": "- {name: bn, type: BN, bottom: x, top: y, bn_param: {ALONE "  # it has no eps
    "scale_filler: {type: gaussian}}}\n",
}
IN_PLACE = {
    name: "- {name: power, type: Power, bottom: x, top: y, power_param: {scale: 2}}\n"
    + text.replace("bottom: x", "bottom: y")
    for name, text in LAYERS.items()
}
CASES = {
    **LAYERS,
    **{f"{name} in place": text for name, text in IN_PLACE.items()},
    "unit": LAYERS["BatchNorm"] + SCALE + RELU,
    "unit in place": IN_PLACE["BatchNorm"] + SCALE + RELU,
    "unit in place, without ReLU": IN_PLACE["BatchNorm"] + SCALE,
    "unit in place, without Scale": IN_PLACE["BatchNorm"] + RELU,
    "unit of no zero gradient": IN_PLACE["BatchNorm"]
    + SCALE.replace("type: uniform, min: -1, max: 1", "type: constant, value: 0"),
}
IMAGES = [(2, 2), (1, 3), (2, 1, 4)]  # of each rank
SHAPES = [(3, 5, 4), (7, 1, 1), (2, 31, 33)]  # of an image
SYNC = "sync: true, eps: 0.01"
each_case = pytest.mark.parametrize("case", CASES)
each_images = pytest.mark.parametrize("images", IMAGES, ids=str)


def net_of(layers, shape, param=SYNC, dtype=np.float64, **more):
    text = f"""
force_backward: true
layer:
- {{name: x, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}}}
{layers.replace("PARAM", param).replace("ALONE", "sync: true, " * ("sync: true" in param))}"""
    return mc.Net.from_text(text, phase="train", seed=3, dtype=dtype, **more)


def step(net, x, dy, passes=2):
    """What passes over the same images leave: y, dx, and of each parameter its values and gradient, by name."""
    for _ in range(passes):
        net.clear_param_diffs()
        net.forward(x=x)
        net.backward(y=dy)
    found = {"y": net.blobs["y"].data.copy(), "dx": net.blobs["x"].diff.copy()}
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            found[f"{name}/{i}"] = blob.data.copy()
            if blob.has_diff:
                found[f"gradient of {name}/{i}"] = blob.diff.copy()
    return {
        name: np.asarray(array.get() if hasattr(array, "get") else array) for name, array in found.items()
    }


def steps_of_ranks(ranks, layers, parts, prepare=lambda net, rank: None, **more):
    """``step`` on every rank, each with its part (x, dy) of the images."""

    def on(communicator):
        x, dy = parts[communicator.rank]
        net = net_of(layers, x.shape, communicator=communicator, **more)
        prepare(net, communicator.rank)
        return step(net, x, dy)

    return ranks.run(on)


def parted(images, shape, rng, offset=3.0):
    """All x and dy, and those of each rank; ranks see images of other kinds."""
    x, dy = (rng.standard_normal((sum(images), *shape)) for _ in range(2))
    bounds = np.cumsum((0, *images))
    parts = [slice(bounds[r], bounds[r + 1]) for r in range(len(images))]
    for rank, part in enumerate(parts):
        x[part] = x[part] * (1 + rank) + offset * rank
    return x, dy, [(x[part], dy[part]) for part in parts]


def assert_together(found, whole, error):
    """Images side by side and gradients added up are the whole's; all ranks track the same."""
    for name, expected in whole.items():
        values = [each[name] for each in found]
        if name in ("y", "dx"):
            together = np.concatenate(values)
        elif name.startswith("gradient"):
            together = sum(values)
        else:
            together = values[0]
            assert all(np.array_equal(together, value) for value in values), name
        scale = max(1, abs(expected).max())
        np.testing.assert_allclose(together, expected, rtol=0, atol=error * scale, err_msg=name)


@each_case
@each_images
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ranks_are_one_process_with_all_images(case, images, shape, rng):
    x, dy, parts = parted(images, shape, rng)
    whole = step(net_of(CASES[case], x.shape), x, dy)
    ranks = ThreadRanks(len(images))
    assert_together(steps_of_ranks(ranks, CASES[case], parts), whole, 1e-12)
    c = shape[0]
    assert [call[:2] for call in ranks.calls] == [("sum", (2 * c + 1,)), ("sum", (2, c, 1, 1))] * 2


@pytest.mark.parametrize("shape", [(), (4,), (3, 2)], ids=str)
@each_images
def test_batches_of_any_axes(shape, images, rng):
    x, dy, parts = parted(images, shape, rng)
    whole = step(net_of(CASES["BatchNorm"], x.shape), x, dy)
    assert_together(steps_of_ranks(ThreadRanks(len(images)), CASES["BatchNorm"], parts), whole, 1e-12)


@each_case
def test_in_float32_to_rounding(case, rng):
    x, dy, parts = parted((2, 3), (3, 20, 20), rng)
    whole = step(net_of(CASES[case], x.shape, dtype=np.float32), x, dy)
    found = steps_of_ranks(ThreadRanks(2), CASES[case], parts, dtype=np.float32)
    assert all(array.dtype == np.float32 for array in found[0].values())
    assert_together(found, whole, 5e-6)


def test_numbers_far_from_zero_keep_their_variance(rng):
    x = (10_000 + rng.standard_normal((6, 2, 30, 30))).astype(np.float32).astype(float)
    expected = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True)
    parts = [(x[:2], x[:2]), (x[2:], x[2:])]
    found = steps_of_ranks(ThreadRanks(2), CASES["BatchNorm"], parts, dtype=np.float32, param="sync: true")
    y = np.concatenate([each["y"] for each in found])
    np.testing.assert_allclose(y, expected, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0, 1e6 / 3, 12345.678, 1e9 / 7])
def test_ranks_of_one_value_have_no_variance_below_zero(value, dtype):
    """The difference of large squares may be, by a rounding."""

    def on(ranks):
        mean = xp.full((2, 1, 1), value, dtype)
        return OverRanks(ranks).moments(mean, 0 * mean, [1023, 2046, 4092][ranks.rank])

    xp = current_device().xp
    for mean, variance, _ in ThreadRanks(3).run(on):
        assert ((variance >= 0) & (variance <= 1e-15 * value * value)).all()
        assert (abs(mean - value) <= 1e-7 * value).all()


@each_case
def test_without_sync_each_rank_has_its_own_statistics_as_in_caffe(case, rng):
    _, _, parts = parted((2, 3), (3, 5, 4), rng)
    ranks = ThreadRanks(2)
    found = steps_of_ranks(ranks, CASES[case], parts, param="eps: 0.01")
    for each, (x, dy) in zip(found, parts, strict=True):
        alone = step(net_of(CASES[case], x.shape, param="eps: 0.01"), x, dy)
        assert all(np.array_equal(each[name], expected) for name, expected in alone.items())
    assert not ranks.calls


@each_case
def test_in_one_process_sync_changes_no_bit(case, rng):
    x, dy, _ = parted((2, 3), (3, 5, 4), rng)
    synced, plain = (
        step(net_of(CASES[case], x.shape, param, np.float32), x, dy) for param in (SYNC, "eps: 0.01")
    )
    assert all(np.array_equal(synced[name], expected) for name, expected in plain.items())


@pytest.mark.parametrize(("case", "given"), [("BatchNorm", "use_global_stats"), ("unit", "use_global_stats"),
                                             ("BN", "frozen")])  # fmt: skip
def test_given_statistics_are_given_to_all_ranks_and_need_no_sum(case, given, rng):
    x, dy, parts = parted((2, 3), (3, 5, 4), rng)
    param = f"{SYNC}, {given}: true"
    ranks = ThreadRanks(2)
    found = steps_of_ranks(ranks, CASES[case], parts, param=param)
    assert_together(found, step(net_of(CASES[case], x.shape, param), x, dy), 1e-12)
    assert not ranks.calls


@pytest.mark.cpu_only("on a GPU there are no units")
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("unit")])
def test_some_ranks_may_run_the_layers_of_a_unit_one_by_one(case, monkeypatch, rng):
    """As where a script looks on, on rank 0 alone."""
    monkeypatch.setattr(units, "is_watched", is_watched_itself)
    monkeypatch.setattr(chains, "is_watched", is_watched_itself)
    x, dy, parts = parted((2, 3, 2), (3, 5, 4), rng)
    whole = step(net_of(CASES[case], x.shape), x, dy)
    seen = []

    def watched(own, what):
        def call(*args):
            seen.append(what)
            own(*args)

        return call

    def watch(net, rank):
        layer = net.layer_dict["bn"]
        for method in {0: ["forward", "backward"], 1: ["backward"], 2: []}[rank]:
            setattr(layer, method, watched(getattr(layer, method), (rank, method)))

    assert_together(steps_of_ranks(ThreadRanks(3), CASES[case], parts, watch), whole, 1e-12)
    assert sorted(set(seen)) == [(0, "backward"), (0, "forward"), (1, "backward")]


@pytest.mark.cpu_only("on a GPU there are no units")
def test_units_ran_as_units(monkeypatch, rng):
    def refuse(*args):
        raise AssertionError("a layer ran by itself")

    monkeypatch.setattr(units, "is_watched", lambda layer, method: False)
    monkeypatch.setattr(BatchNorm, "forward", refuse)
    monkeypatch.setattr(BatchNorm, "backward", refuse)
    _, _, parts = parted((2, 3), (3, 5, 4), rng)
    for case in (case for case in CASES if case.startswith("unit")):
        steps_of_ranks(ThreadRanks(2), CASES[case], parts)


NET = """
layer:
- {name: x, type: Input, top: [x, label], input_param: {shape: [{dim: [IMAGES, 2, 6, 6]}, {dim: [IMAGES]}]}}
- {name: conv, type: Convolution, bottom: x, top: y, convolution_param: {num_output: 3, kernel_size: 3,
    weight_filler: {type: gaussian, std: 0.5}}}
- {name: bn, type: BatchNorm, bottom: y, top: y, batch_norm_param: {sync: true}}
- {name: scale, type: Scale, bottom: y, top: y, scale_param: {bias_term: true}}
- {name: relu, type: ReLU, bottom: y, top: y}
- {name: ip, type: InnerProduct, bottom: y, inner_product_param: {num_output: 4, weight_filler: {type: xavier}}}
- {name: bn2, type: BN, bottom: ip, top: z, bn_param: {sync: true, slope_filler: {type: gaussian}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [z, label]}
"""


@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_of_the_ranks_gradients_is_that_of_one_batch_of_all_images(count, rng):
    x, labels = rng.standard_normal((4 * count, 2, 6, 6)), rng.integers(0, 4, 4 * count)

    def gradients(x, labels, **more):
        text = NET.replace("IMAGES", str(len(x)))
        net = mc.Net.from_text(text, phase="train", seed=1, dtype=np.float64, **more)
        net.clear_param_diffs()
        loss = net.forward(x=x, label=labels)["loss"]
        net.backward()
        found = {p.key: p.blob.diff.copy() for p in net.learnable if p.blob.has_diff} | {"loss": loss}
        return {name: np.asarray(a.get() if hasattr(a, "get") else a) for name, a in found.items()}

    def on(ranks):
        part = slice(4 * ranks.rank, 4 * (ranks.rank + 1))
        return gradients(x[part], labels[part], communicator=ranks)

    found, whole = ThreadRanks(count).run(on), gradients(x, labels)
    assert all(
        abs(whole[name]).max() > 1e-3 for name in ("conv/0", "scale/0", "scale/1", "ip/0", "bn2/0", "loss")
    )
    for name, expected in whole.items():
        mean = sum(each[name] for each in found) / count
        np.testing.assert_allclose(
            mean, expected, rtol=0, atol=1e-12 * max(1, abs(expected).max()), err_msg=name
        )


@pytest.mark.parametrize(
    "layer", ["BatchNorm, batch_norm_param: {eps: 0.1, sync: true}", "BN, bn_param: {sync: true}"]
)
def test_with_sync_backward_is_the_derivative_of_forward(layer, rng):
    check_gradients(f"type: {layer}", [rng.standard_normal((2, 3, 4, 2))])


def test_ranks_with_one_number_each_have_a_variance(rng):
    """Of m = 1 there is no m / (m − 1); of two ranks m is at least 2."""
    _, _, parts = parted((1, 1), (3,), rng)
    found = steps_of_ranks(ThreadRanks(2), CASES["BatchNorm"], parts)
    both = np.concatenate([x for x, _ in parts])
    np.testing.assert_allclose(found[0]["bn/1"], both.var(axis=0, ddof=1) * (1 + 0.999))
