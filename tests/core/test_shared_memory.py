"""Nets whose blobs share memory in forward: the same outputs, and what is said of the blobs that are gone."""

import random
from itertools import combinations

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.shared_memory import Need, find_places
from minicaffe.inspect.layer_examples import EXAMPLES
from tests import ROOT
from tests.core.small_nets import CHAIN, TRAIN
from tests.layer_cases import LAYERS
from tests.marks import on_the_cpu_alone

GONE = r"gone, as the net shares memory; ask for it by name, net.forward\(blobs=\[…\]\)"
LARGE = ("cifar10_full", "cifar10_vgg", "googlenet", "densenet121", "mobilenet_v1", "resnet18")


def filled(net):
    """The net with random weights, those of a layer the same in all nets: the zoo's are zeros."""
    for name, blobs in net.params.items():
        rng = np.random.default_rng(len(name))
        for blob in blobs:
            is_statistic = net.layer_dict[name].type == "BatchNorm"
            scale = 0.1 if is_statistic else np.sqrt(2 * blob.shape[0] / blob.count)
            blob.data[...] = net.setting.device.put(is_statistic + scale * rng.standard_normal(blob.shape))
    return net


def poison(net):
    """Fill the shared memory, so that what a layer does not write is seen."""
    for _, array in net._shared_memory._arrays:
        array.fill(np.nan)


def both(make):
    return make(), make(share_memory=True)


def assert_same(nets, inputs, passes=2):
    for _ in range(passes):
        poison(nets[1])
        plain, shared = (net.forward(**inputs) for net in nets)
        assert plain.keys() == shared.keys()
        for name, values in plain.items():
            np.testing.assert_array_equal(mc.to_host(shared[name]), mc.to_host(values), err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_no_two_needs_lie_on_each_other_at_the_same_time(seed):
    choose = random.Random(seed)
    needs = []
    for _ in range(40):
        first = choose.randrange(30)
        needs.append(Need(choose.choice([0, 1, 5, 64, 1000]), first, first + choose.choice([0, 1, 2, 20])))
    total = find_places(needs)
    for a, b in combinations(needs, 2):
        if a.size and b.size and a.first <= b.last and b.first <= a.last:
            assert a.place + a.size <= b.place or b.place + b.size <= a.place
    at_once = max(sum(n.size for n in needs if n.first <= t <= n.last) for t in range(60))
    assert at_once <= total <= 1.5 * at_once and total == max(n.place + n.size for n in needs)


def test_a_chain_needs_two_blobs_at_a_time():
    assert find_places([Need(10, i, i + 1) for i in range(50)]) == 20


@pytest.mark.parametrize(
    "name",
    on_the_cpu_alone(
        ["lenet", "squeezenet_v1.1", *LARGE], LARGE, "other layers are tried there one by one, below"
    ),
)
def test_nets_of_the_zoo_have_the_same_outputs(name, rng):
    path = ROOT / "prototxt" / name / "deploy.yaml"
    nets = both(lambda **more: filled(mc.Net(path, seed=1, **more)))
    (only,) = nets[0].inputs
    x = rng.standard_normal(nets[0].blobs[only].shape)
    assert_same(nets, {only: x})
    assert np.isfinite(mc.to_host(nets[0].blobs[nets[0].outputs[0]].data)).all()
    plain = sum(blob.count for blob in {blob.data_owner for blob in nets[0].blobs.values()}) * 4
    print(f"{name}: {plain / 2**20:.1f} MiB, shared {nets[1].shared_bytes / 2**20:.1f} MiB")
    assert nets[1].shared_bytes < 0.8 * plain


def sandwich(layer, shapes, dtype="float32", **more):
    """A net of a layer between others, so that none of its blobs is an input or an output."""
    lines = ["layer:"]
    for i, shape in enumerate(shapes):
        lines.append(f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}}}")
        lines.append(f"- {{name: b{i}, type: Power, bottom: x{i}}}")
    lines.append(f"- {{name: L, bottom: [{', '.join(f'b{i}' for i in range(len(shapes)))}], {layer}}}")
    text = "\n".join(lines)
    for top in mc.Net.from_text(text, phase="test").layers[-1].spec.top:
        lines.append(f"- {{name: {top}_end, type: Power, bottom: {top}}}")
    return mc.Net.from_text("\n".join(lines), seed=1, dtype=dtype, **more)


CASES = {f"case {name}": case for name, case in LAYERS.items()}
CASES |= {f"example {name}": (example.text, example.inputs) for name, example in EXAMPLES.items()}


@pytest.mark.parametrize("name", CASES)
def test_every_layer_writes_all_that_is_read(name, rng):
    layer, given = CASES[name]
    arrays = [rng.random(x) if isinstance(x, tuple) else np.asarray(x) for x in given]
    nets = both(lambda **more: sandwich(layer, [array.shape for array in arrays], **more))
    assert_same(nets, {f"x{i}": array for i, array in enumerate(arrays)})


def test_blobs_that_are_gone_say_so_and_what_to_do(make_net):
    net = make_net(CHAIN, share_memory=True)
    for _ in range(2):
        for read in (lambda: net.blobs["pool"].data, lambda: net.blobs["conv"].stored):
            with pytest.raises(mc.MinicaffeError, match=GONE):
                read()
        assert "data gone" in repr(net.blobs["conv"])
        net.forward()
    assert net.blobs["data"].data.shape == (2, 3, 6, 6) and net.blobs["prob"].data.sum() == pytest.approx(2)


def test_a_blob_that_was_asked_for_stays(make_net, rng):
    nets = both(lambda **more: make_net(CHAIN, seed=1, **more))
    x = rng.standard_normal((2, 3, 6, 6))
    for _ in range(2):
        plain, shared = (net.forward(blobs=["conv", "ip"], data=x) for net in nets)
        for name in ("conv", "ip", "prob"):
            np.testing.assert_array_equal(shared[name], plain[name])
            np.testing.assert_array_equal(nets[1].blobs[name].data, plain[name])
    with pytest.raises(mc.MinicaffeError, match=GONE):
        _ = nets[1].blobs["pool"].data


def test_forward_may_end_early_but_not_start_late(make_net, rng):
    nets = both(lambda **more: make_net(CHAIN, seed=1, **more))
    x = rng.standard_normal((2, 3, 6, 6))
    plain, shared = (net.forward(end="pool", data=x) for net in nets)
    np.testing.assert_array_equal(shared["pool"], plain["pool"])
    with pytest.raises(
        mc.MinicaffeError, match=r"start='pool', but the blobs before it are gone.*share_memory"
    ):
        nets[1].forward(start="pool")


def test_backward_and_phase_train_are_refused(make_net):
    net = make_net(CHAIN, share_memory=True)
    net.forward()
    with pytest.raises(mc.MinicaffeError, match="backward: a net that shares memory has not kept its data"):
        net.backward()
    with pytest.raises(mc.SpecError, match="share_memory, but in phase TRAIN backward reads all blobs"):
        make_net(TRAIN, phase="train", share_memory=True)


def test_losses_are_as_without(make_net, rng):
    nets = both(lambda **more: make_net(TRAIN, seed=1, **more))
    for net in nets:
        net.forward(data=rng.standard_normal((4, 3)) * 0 + 1, label=np.arange(4) % 3)
    assert float(nets[0].loss()) == float(nets[1].loss()) > 0


def test_blobs_change_their_sizes_with_the_inputs(make_net, rng):
    nets = both(lambda **more: make_net(CHAIN.replace("6, 6", "8, 8"), seed=1, **more))
    for batch in (3, 1, 4):
        for net in nets:
            net.blobs["data"].reshape(batch, 3, 8, 8)
        assert_same(nets, {"data": rng.standard_normal((batch, 3, 8, 8))})
    x = rng.standard_normal((7, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(nets[1].forward(x)["prob"], nets[0].forward(x)["prob"])


def test_blobs_whose_sizes_are_known_in_the_pass_only_do_not_share(make_net, rng):
    nets = both(
        lambda **more: make_net(
            """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [4, 3]}}}
- {name: chosen, type: Input, input_param: {shape: {dim: [4]}}}
- {name: a, type: Power, bottom: x, power_param: {shift: 1}}
- {name: s, type: Power, bottom: chosen}
- {name: f, type: Filter, bottom: [a, s]}
- {name: g, type: Power, bottom: f, power_param: {scale: 2}}
- {name: y, type: Power, bottom: g, power_param: {scale: 2}}
""",
            **more,
        )
    )
    for chosen in ([1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1], [1, 0, 1, 1]):
        assert_same(nets, {"x": rng.standard_normal((4, 3)), "chosen": np.array(chosen)}, passes=1)


def test_what_layers_of_a_script_hold_on_to_is_theirs(make_net, rng):
    class Holds(mc.Layer):
        def setup(self, bottom, top):
            self.held = bottom[0].data

        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            top[0].data[...] = 2 * self.held

    mc.register_layer("HoldsIt", Holds)
    text = CHAIN + "- {name: more, type: Power}\n- {name: mine, type: HoldsIt}\n- {name: end, type: Power}\n"
    net = make_net(text, share_memory=True)
    for shift in (0, 1):
        net.forward(data=rng.standard_normal((2, 3, 6, 6)) + shift)
        assert (net.blobs["mine"].data == 2 * net.blobs["more"].data).all()


def test_an_error_in_a_pass_leaves_the_net_usable(make_net, rng, monkeypatch):
    nets = both(lambda **more: make_net(CHAIN, seed=1, **more))
    x = rng.standard_normal((2, 3, 6, 6))
    nets[1].forward(data=x)
    with monkeypatch.context() as patch:
        patch.setattr(nets[1].layer_dict["ip"], "forward", lambda bottom, top: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            nets[1].forward(data=x)
    with pytest.raises(mc.MinicaffeError, match=GONE):
        _ = nets[1].blobs["pool"].data
    assert_same(nets, {"data": x})
