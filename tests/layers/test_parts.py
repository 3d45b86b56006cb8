"""Blobs that lie in the memory of the blob that they are joined to, or cut from; a script cannot tell."""

import copy
import random

import numpy as np
import pytest

import minicaffe as mc

FILLER = "weight_filler: {type: gaussian, std: 1}"
CONV = f"type: Convolution, convolution_param: {{num_output: 4, kernel_size: 1, {FILLER}}}"
DATA = "- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 4, 4]}}}"
TWO = f"- {{name: a, {CONV}, bottom: x}}\n- {{name: b, {CONV}, bottom: x}}\n"
JOIN = "- {name: y, type: Concat, bottom: [a, b]}\n"
END = "- {name: end, type: Sigmoid, bottom: y}\n"
SLICE = "- {name: cut, type: Slice, bottom: y, top: [p, q], slice_param: {slice_point: 3}}\n"

JOINED = {  # nets in which blobs lie in others, and which ones
    "concat": (TWO + JOIN + END, {("a", "y"), ("b", "y")}),
    "in place before": (TWO + "- {name: r, type: ReLU, bottom: a, top: a}\n" + JOIN + END, {("a", "y")}),
    "shared with another layer": (TWO + JOIN + END + "- {name: s, type: Power, bottom: a}\n", {("a", "y")}),
    "slice": (f"- {{name: y, {CONV}, bottom: x}}\n" + SLICE, {("p", "y"), ("q", "y")}),
    "concat in concat": (
        TWO
        + JOIN
        + f"- {{name: c, {CONV}, bottom: y}}\n- {{name: z, type: Concat, bottom: [y, c]}}\n"
        + "- {name: end, type: TanH, bottom: z}\n",
        {("a", "y"), ("y", "z"), ("a", "z"), ("c", "z")},
    ),
    "slice of concat": (TWO + JOIN + SLICE, {("a", "y"), ("p", "y"), ("q", "y")}),
    "flat": (
        TWO + "- {name: f, type: Flatten, bottom: a}\n- {name: g, type: Flatten, bottom: b}\n"
        "- {name: y, type: Concat, bottom: [f, g]}\n" + END,
        {("a", "y"), ("f", "y")},
    ),
}
APART = {  # nets in which none do
    "in place after": TWO + JOIN + "- {name: r, type: ReLU, bottom: y, top: y}\n" + END,
    "in place on a view after": TWO + JOIN + "- {name: f, type: Flatten, bottom: y}\n"
    "- {name: r, type: ReLU, bottom: f, top: f}\n",
    "in place on a part": f"- {{name: y, {CONV}, bottom: x}}\n"
    + SLICE
    + "- {name: r, type: ReLU, bottom: p, top: p}\n- {name: s, type: ReLU, bottom: q, top: q}\n",
    "along the height": TWO + "- {name: y, type: Concat, bottom: [a, b], concat_param: {axis: 2}}\n" + END,
    "along the batch": TWO + "- {name: y, type: Concat, bottom: [a, b], concat_param: {axis: 0}}\n" + END,
    "the input": "- {name: y, type: Concat, bottom: x}\n" + END,
    "slice of the input": "- {name: cut, type: Slice, bottom: x, top: [p, q], slice_param: {slice_point: 1}}\n",
}
MIXED = {
    "the same twice": TWO + "- {name: y, type: Concat, bottom: [a, b, a]}\n" + END,
    "two concats": TWO + JOIN + "- {name: z, type: Concat, bottom: [b, a, x]}\n" + END,
    "concat of a part": TWO + JOIN + SLICE + "- {name: z, type: Concat, bottom: [q, a]}\n",
    "some along": TWO + JOIN + "- {name: loss, type: Reduction, bottom: y, loss_weight: 2}\n" + END,
}


def made(make_net, layers):
    return make_net(f"force_backward: true\nlayer:\n{DATA}\n{layers}", seed=1)


def run(net, x):
    net.blobs["x"].reshape(*x.shape)
    net.forward(x=x)
    for name in net.gradient_starts:
        net.blobs[name].stored_diff[...] = 1
    net.run_backward()


def numbers(net, what):
    arrays = {
        name: blob.logical(blob.stored if what == "data" else blob.stored_diff)
        for name, blob in net.blobs.items()
    }
    return {name: mc.to_host(array).copy() for name, array in arrays.items()}


@pytest.mark.parametrize("name", JOINED)
def test_parts_lie_in_the_whole(make_net, rng, name):
    layers, pairs = JOINED[name]
    net = made(make_net, layers)
    run(net, rng.standard_normal((2, 3, 4, 4)))
    for part, whole in pairs:
        assert np.shares_memory(net.blobs[part].stored, net.blobs[whole].stored)
    run(net, rng.standard_normal((5, 3, 4, 4)))
    for part, whole in pairs:
        assert np.shares_memory(net.blobs[part].stored, net.blobs[whole].stored)


def test_a_part_joins_again_when_another_part_has_changed_its_size(make_net):
    other = DATA.replace("x,", "w,") + "\n- {name: b, type: Power, bottom: w}\n"
    net = made(make_net, f"- {{name: a, {CONV}, bottom: x}}\n" + other + JOIN + END)
    net.forward()
    net.blobs["w"].reshape(2, 5, 4, 4)
    net.forward()
    a, b, y = (net.blobs[name].stored for name in "aby")
    assert np.shares_memory(a, y) and np.shares_memory(b, y)


@pytest.mark.parametrize("share_memory", [False, True])
def test_a_copy_of_a_net_has_parts_of_its_own(make_net, rng, share_memory):
    net = make_net(f"layer:\n{DATA}\n{JOINED['concat in concat'][0]}", seed=1, share_memory=share_memory)
    x = rng.standard_normal((2, 3, 4, 4))
    net.forward(x=x)
    other = copy.deepcopy(net)
    for given in (x + 1, x, 2 * x):
        np.testing.assert_array_equal(other.forward(x=given)["end"], net.forward(x=given)["end"])


@pytest.mark.parametrize("name", APART)
def test_parts_are_apart_where_a_later_layer_or_a_script_writes_one_of_them(make_net, rng, name):
    net = made(make_net, APART[name])
    run(net, rng.standard_normal((2, 3, 4, 4)))
    whole = net.blobs["y" if "y" in net.blobs else "x"]
    parts = [net.blobs[n] for n in ("a", "b", "p", "q", "x") if n in net.blobs and net.blobs[n] is not whole]
    assert not any(np.shares_memory(part.stored, whole.stored) for part in parts)


def test_gradients_lie_in_the_whole_unless_a_layer_overwrites_them(make_net, rng):
    net = made(make_net, JOINED["in place before"][0])
    run(net, rng.standard_normal((2, 3, 4, 4)))
    a, b, y = (net.blobs[name].stored_diff for name in "aby")
    assert np.shares_memory(b, y) and not np.shares_memory(a, y)


def written(net, name, value):
    net.blobs[name].data[...] = value


def seen(net, name):
    return net.blobs[name].data


def cleared(net, name):
    net.blobs[name].clear_diff()


@pytest.mark.parametrize("name", [*JOINED, *APART, *MIXED])
def test_a_script_finds_in_every_blob_what_it_would_find_without_parts(request, make_net, name):
    layers = {**{name: layers for name, (layers, _) in JOINED.items()}, **APART, **MIXED}[name]
    # what is joined is found on the host, so the double, which is slow, need not try every script
    for seed in range(12 if request.config.getoption("--device") == "cpu" else 2):
        choose = random.Random(seed)
        rng = np.random.default_rng(seed)
        nets = made(make_net, layers), made(make_net, layers)
        for blob in nets[1].blobs.values():
            blob.join = lambda *place: None
        kept = [[], []]
        for _ in range(12):
            blob, layer = choose.choice([*nets[0].blobs]), choose.choice(nets[0].layers).name
            value, x = rng.standard_normal(), rng.standard_normal((choose.choice([2, 2, 2, 1, 3]), 3, 4, 4))
            todo = choose.choice(
                [run, run, run, written, seen, cleared, "start", "end", "backward", "reshape"]
            )
            for net, arrays in zip(nets, kept, strict=True):
                if todo is run:
                    run(net, x)
                elif todo is written:
                    written(net, blob, value)
                elif todo is seen:
                    arrays.append((net.blobs[blob], seen(net, blob)))
                elif todo is cleared:
                    cleared(net, blob)
                elif todo == "start":
                    net.forward(start=layer)
                elif todo == "end":
                    net.forward(end=layer)
                elif todo == "reshape":
                    net.blobs["x"].reshape(*x.shape)
                    net.reshape()
                elif all(step.has_run for step in net.steps):
                    net.backward(start=layer)
            for what in ("data", "diff"):
                mine, theirs = (numbers(net, what) for net in nets)
                for key in theirs:
                    np.testing.assert_array_equal(
                        mine[key], theirs[key], err_msg=f"{key}.{what} {seed} {todo}"
                    )
            for (_, mine), (_, theirs) in zip(*kept, strict=True):
                np.testing.assert_array_equal(mine, theirs)
