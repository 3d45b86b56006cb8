"""Central differences: is a net's backward the derivative of its forward?

The function that is differentiated is f = Σ_t ⟨top_t, g_t⟩ with random g_t (for a loss, f is the loss), so
backward from top diffs g_t must give df/dx for every bottom and parameter x.
"""

import numpy as np

import minicaffe as mc
from minicaffe.device.array import current_device, to_device, to_host
from minicaffe.spec.net import parse_net

STEP = 1e-5
SOME = 6


def layer_net(layer, shapes):
    """A net of Input layers ``x0``, ``x1``, … of these shapes under one layer ``L``, given as YAML text.

    The layer's bottoms are all inputs unless it names its own.
    """
    lines = ["name: check", "force_backward: true", "layer:"]
    for i, shape in enumerate(shapes):
        lines.append(f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}}}")
    bottoms = ", ".join(f"x{i}" for i in range(len(shapes)))
    bottom = "" if "bottom:" in layer else f", bottom: [{bottoms}]"
    lines.append(f"- {{name: L{bottom}, {layer}}}")
    return "\n".join(lines)


def check_gradients(text, inputs, *, phase="train", check=None, tolerance=1e-6, seed=5):
    """Assert that backward equals central differences, in float64, for bottoms and parameters.

    ``text``: the net; ``inputs``: {blob: array}; ``check``: the inputs to differentiate by (default: all that
    get a gradient). Forward is run from the same random state each time. Returns the net.
    """
    rng = np.random.default_rng(seed)
    net = mc.Net(parse_net(text), phase=phase, dtype="float64", seed=3)
    for name, value in inputs.items():
        net.blobs[name].reshape(*np.shape(value))
    net.reshape()
    for param in net.learnable:
        param.blob.data[...] += to_device(0.1 * rng.standard_normal(param.blob.shape))
    start = [(param, np.array(to_host(param.blob.data))) for param in net.learnable]
    state = net.state_dict()
    losses = {
        n for layer in net.layers for n, w in zip(layer.spec.top, layer.spec.loss_weight, strict=True) if w
    }
    outputs = [n for n in net.gradient_starts if n not in losses]

    def run():
        net.load_state_dict(state)
        if state["rng"] is None:  # a GPU's generator cannot be set back, but begun again
            net.setting.rng = net.setting.device.rng(net.seed)
        for param, value in start:
            param.blob.data[...] = to_device(value)
        for name, value in inputs.items():
            net.blobs[name].data[...] = to_device(value)
        net.run_forward()

    inputs = {name: np.array(value, np.float64) for name, value in inputs.items()}
    run()
    gradients = {name: to_device(rng.standard_normal(net.blobs[name].shape)) for name in outputs}

    def value():
        run()
        total = float(net.loss())
        return total + sum(float((net.blobs[n].data * g).sum()) for n, g in gradients.items())

    for name, gradient in gradients.items():
        net.blobs[name].diff[...] = gradient
    net.clear_param_diffs()
    net.run_backward()
    reached = net.reached
    names = [n for n in inputs if n in reached] if check is None else check
    assert names or net.params, "nothing gets a gradient"
    wanted = [(n, inputs[n], to_host(net.blobs[n].diff).copy()) for n in names]
    wanted += [(p.key, array, to_host(p.blob.diff).copy()) for p, array in start if p.lr_mult]
    for name, array, gradient in wanted:
        _compare(name, array, gradient, value, tolerance)
    return net


def _compare(name, array, gradient, value, tolerance):
    places = _places(gradient)
    numeric = np.zeros(len(places))
    for i, index in enumerate(places):
        kept = array[index]
        array[index] = kept + STEP
        high = value()
        array[index] = kept - STEP
        low = value()
        array[index] = kept
        numeric[i] = (high - low) / (2 * STEP)
    scale = max(1.0, np.abs(numeric).max(initial=0))
    found = np.array([gradient[index] for index in places])
    np.testing.assert_allclose(found, numeric, rtol=tolerance, atol=tolerance * scale, err_msg=name)
    assert np.any(numeric), f"the gradient of {name} is zero everywhere: this check says nothing"


def _places(gradient):
    """All places of an array; on another device than the CPU, which is slow here, some: the largest, and any."""
    if current_device().kind == "cpu":
        return list(np.ndindex(gradient.shape))
    flat = np.argsort(-np.abs(gradient), axis=None)
    some = [*flat[:SOME], *np.random.default_rng(0).permutation(flat)[:SOME]]
    return [np.unravel_index(place, gradient.shape) for place in dict.fromkeys(some)]


def away_from(values, array, margin=1e-3):
    """The array with entries near any of ``values`` (where a function has a corner) moved off by 2 margins."""
    array = np.array(array)
    for corner in np.atleast_1d(values):
        array = np.where(np.abs(array - corner) < margin, corner + 2 * margin, array)
    return array
