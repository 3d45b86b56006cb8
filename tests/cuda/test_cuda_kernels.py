"""Every CUDA kernel, run on the CPU, computes what the NumPy version of its op does; under sanitizers too.

The arrays are those of the double of CuPy, so that the ops choose their kernels as on a GPU.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicaffe.device import array
from minicaffe.device.array import Device
from minicaffe.device.kernel import MOST_BLOCKS, THREADS, Kernel, needs_64_bits
from minicaffe.ops import dropout, lrn, normalization, pooling, roi_pooling, softmax, unpooling
from minicaffe.ops.convolution import dense as convolution
from minicaffe.ops.convolution import depthwise, vertical
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.update import UpdateStep, update
from minicaffe.spec.solver import parse_solver
from minicaffe.train.solvers.rule import update_rules
from tests.cuda import cuda_on_cpu
from tests.cuda.kernels import all_kernels
from tests.side_run import SideRun
from tests.strict_cupy import cupy, cupyx, rules

needs_compiler = pytest.mark.skipif(bool(cuda_on_cpu.MISSING), reason=cuda_on_cpu.MISSING)
pytestmark = needs_compiler  # of the double: not where test_gpu.py has the GPU run these tests
LAUNCHED: set[str] = set()
GPU = Device("gpu")
WINDOWS = [
    ((1, 1, 1, 1), Window((1, 1))),
    ((3, 7, 5, 4), Window((3, 2), (2, 1), (1, 1))),
    ((2, 6, 9, 1), Window((2, 3), (3, 2), (0, 2))),
    ((4, 5, 5, 3), Window((5, 5), (1, 1), (2, 2))),
    ((2, 4, 3, 33), Window((4, 3), (2, 2))),
    ((2, 3, 3, 2), Window((1, 1), (3, 3))),  # pooling has windows here that see nothing
]
DILATED = [*WINDOWS, ((4, 9, 8, 2), Window((3, 2), (1, 2), (2, 1), (2, 3)))]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """CuPy is its double (test_gpu.py has another fixture of this name), and the tests are held to its rules."""
    monkeypatch.setattr(array, "cupy", cupy)
    monkeypatch.setattr(array, "cupyx", cupyx)
    monkeypatch.setattr(rules, "tests_may_mix", False)
    launch = Kernel.__call__
    monkeypatch.setattr(
        Kernel,
        "__call__",
        lambda self, *args, **types: LAUNCHED.add(self.name) or launch(self, *args, **types),
    )


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_same(run, *arrays, written):
    """``run(*arrays)`` writes the same into the last ``written`` arrays on NumPy and on the double."""
    on_device = [array.cupy.asarray(a) for a in arrays]
    on_host = [a.copy() for a in arrays]
    run(*on_host)
    run(*on_device)
    for mine, its in zip(on_host[-written:], on_device[-written:], strict=True):
        tolerance = TOLERANCE.get(mine.dtype.type, 0)
        scale = max(1, np.abs(mine.astype(np.float64)).max(initial=0))
        np.testing.assert_allclose(its.get(), mine, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize(("shape", "window"), DILATED)
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("block_bytes", [1 << 20, 200], ids=["one block", "many blocks"])
def test_convolutions_products(monkeypatch, dtype, shape, window, group, block_bytes):
    if shape[0] % group:
        pytest.skip("groups divide the channels")
    monkeypatch.setattr(convolution, "DEVICE_BLOCK_BYTES", block_bytes)
    filters, (oh, ow) = 4, window.output_size(shape[1:3])
    made = {
        kind: convolution.DenseConvolution(Geometry(shape, filters, window, group), dtype, kind)
        for kind in (array.CPU, GPU)
    }

    def run(x, w, b, dy, y, dw, db, dx):
        product = made[array.CPU if isinstance(x, np.ndarray) else GPU]
        padded = product.forward(x, w, y, b)
        product.weight_grad(dy, padded, dw, db)
        product.input_grad(dy, w, dx)

    x, w = random(*shape, dtype=dtype), random(filters, shape[0] // group, *window.kernel, dtype=dtype)
    dy, b = random(filters, oh, ow, shape[3], dtype=dtype, seed=1), random(filters, dtype=dtype)
    assert_same(run, x, w, b, dy, *(np.full_like(a, 7) for a in (dy, w, b, x)), written=4)


@pytest.mark.parametrize(("shape", "window"), DILATED)
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("threads", [1, 256])
def test_depthwise_convolutions_products(monkeypatch, dtype, shape, window, multiplier, threads):
    monkeypatch.setattr(depthwise, "WEIGHT_THREADS", threads)
    group, filters, (oh, ow) = shape[0], shape[0] * multiplier, window.output_size(shape[1:3])
    made = {
        kind: depthwise.DepthwiseConvolution(Geometry(shape, filters, window, group), dtype, kind)
        for kind in (array.CPU, GPU)
    }

    def run(x, w, b, dy, y, dw, db, dx, without_bias):
        product = made[array.CPU if isinstance(x, np.ndarray) else GPU]
        padded = product.forward(x, w, y, b)
        product.weight_grad(dy, padded, dw, db)
        product.input_grad(dy, w, dx)
        product.forward(x, w, without_bias)

    x, w, b = (
        random(*shape, dtype=dtype),
        random(filters, 1, *window.kernel, dtype=dtype),
        random(filters, dtype=dtype),
    )
    dy = random(filters, oh, ow, shape[3], dtype=dtype, seed=1)
    assert_same(run, x, w, b, dy, *(np.full_like(a, 7) for a in (dy, w, b, x, dy)), written=5)


def test_a_vertical_convolution_writes_into_a_padded_array(dtype):
    shape, window = (3, 6, 5, 2), Window((3, 1), (1, 1), (1, 0))
    geometry = Geometry(shape, 4, window)
    made = {kind: vertical.VerticalConvolution(geometry, dtype, kind) for kind in (array.CPU, GPU)}

    def run(x, w, padded):
        made[array.CPU if isinstance(x, np.ndarray) else GPU].forward(x, w, padded[:, :, 1:6])

    assert_same(
        run,
        random(*shape, dtype=dtype),
        random(4, 3, 3, 1, dtype=dtype),
        np.zeros((4, 6, 7, 2), dtype),
        written=1,
    )


@pytest.mark.parametrize("place", [np.uint8, np.int32])
@pytest.mark.parametrize(("shape", "window"), WINDOWS)
def test_pooling(dtype, shape, window, place):
    out = (shape[0], *pooling.output_size(shape[1:3], window), shape[3])
    x, y, at = random(*shape, dtype=dtype), np.full(out, 7, dtype), np.full(out, 7, place)
    x = np.round(2 * x) / 2  # so that there are equal ones
    dy = random(*out, dtype=dtype, seed=1)
    assert_same(lambda x, y: pooling.max_pool(x, window, y), x, y, written=1)
    assert_same(lambda x, y, at: pooling.max_pool(x, window, y, at), x, y, at, written=2)
    pooling.max_pool(x, window, y, at)
    assert_same(
        lambda dy, at, dx: pooling.max_pool_grad(dy, at, window, dx), dy, at, np.full_like(x, 7), written=1
    )
    assert_same(lambda x, y: pooling.ave_pool(x, window, y), x, y, written=1)
    assert_same(lambda dy, dx: pooling.ave_pool_grad(dy, window, dx), dy, np.full_like(x, 7), written=1)
    positive = np.abs(x)
    assert_same(lambda x, y: pooling.expected_pool(x, window, y), positive, y, written=1)
    threshold = np.random.default_rng(2).random(out).astype(dtype)
    assert_same(
        lambda x, t, y, at: pooling.sample_pool(x, window, t, y, at), positive, threshold, y, at, written=2
    )


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_pooling_of_regions(dtype, scale):
    x = np.round(4 * random(3, 7, 9, 2, dtype=dtype)) / 4  # so that there are equal ones
    corners = [(0, 0, 0, 6, 5), (1, 3, 2, 3, 2), (1, 8, 6, 20, 30), (0, 5, 4, 2, 1), (1, -3, -2, 4, 9)]
    regions, out = np.array(corners, dtype).T.copy(), (3, 2, 3, len(corners))
    assert_same(
        lambda x, r, y, at: roi_pooling.max_roi_pool(x, r, scale, y, at),
        x, regions, np.full(out, 7, dtype), np.full(out, 7, np.int32), written=2,
    )  # fmt: skip


def test_a_region_of_an_image_that_is_not_there_is_zero():
    x, y = array.cupy.ones((2, 4, 4, 3), np.float32), array.cupy.full((2, 2, 2, 3), 7, np.float32)
    places = array.cupy.full(y.shape, 7, np.int32)
    regions = np.array([(3, 0, 0, 3, 3), (-1, 0, 0, 3, 3), (2, 0, 0, 3, 3)], np.float32).T.copy()
    roi_pooling.max_roi_pool(x, array.cupy.asarray(regions), 1.0, y, places)
    assert not y.get()[..., :2].any() and (y.get()[..., 2] == 1).all()
    assert (places.get()[..., :2] == -1).all()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 4, 5), (2, 3, 1, 1)])
def test_unpooling_and_its_gradient(dtype, shape):
    channels, height, width, batch = shape
    large = channels, 2 * height + 1, 2 * width, batch
    free = np.random.default_rng(2).permuted(np.arange(large[1] * large[2])[:, None], axis=0)
    mask = np.resize(free[: height * width], shape).astype(dtype)
    x, dy = random(*shape, dtype=dtype), random(*large, dtype=dtype, seed=1)
    assert_same(unpooling.unpool, x, mask, np.full_like(dy, 7), written=1)
    assert_same(unpooling.unpool_grad, dy, mask, np.full_like(x, 7), written=1)


def test_a_place_that_is_not_there_is_left_out():
    mask = array.cupy.asarray(np.array([0, -1, 4, np.nan, 1e30], np.float32).reshape(1, 1, 5, 1))
    x, y = array.cupy.ones(mask.shape, np.float32), array.cupy.full((1, 2, 2, 1), 7, np.float32)
    unpooling.unpool(x, mask, y)
    assert y.get().ravel().tolist() == [1, 0, 0, 0]
    unpooling.unpool_grad(y, mask, x)
    assert x.get().ravel().tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 2, 5), (3, 6, 5, 2), (9, 1, 4, 3)])
@pytest.mark.parametrize("axes", [(0,), (1, 2)], ids=["across", "within"])
@pytest.mark.parametrize(("half", "beta"), [(2, 0.75), (1, 0.5), (0, 1.5)])
def test_local_response(dtype, shape, axes, half, beta):
    response = lrn.LocalResponse(half, axes, 0.3, beta, 1.5)
    x, dy = random(*shape, dtype=dtype), random(*shape, dtype=dtype, seed=1)
    assert_same(lambda x, y: response.forward(x, y), x, np.full_like(x, 7), written=1)
    assert_same(lambda x, dy, dx: response.backward(x, dy, dx), x, dy, np.full_like(x, 7), written=1)
    assert_same(lambda x, dy: response.backward(x, dy, dy), x, dy, written=1)  # in place


@pytest.mark.parametrize("shape", [(1, 1), (10, 64), (3, 2, 5), (1000, 3)])
def test_softmax_and_its_loss(dtype, shape):
    x = 30 * random(*shape, dtype=dtype)
    labels = np.random.default_rng(1).integers(0, shape[0], shape[1:])
    assert_same(softmax.softmax, x, np.full_like(x, 7), written=1)
    assert_same(lambda x: softmax.softmax(x, x), x, written=1)  # in place
    softmax.softmax(x.copy(), x)

    def losses(p, labels, out):
        out[...] = softmax.cross_entropy(p, labels)

    assert_same(losses, x, labels, np.zeros(shape[1:], dtype), written=1)
    assert_same(softmax.cross_entropy_grad, x, labels, np.full_like(x, 7), written=1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 700, 1), (4, 5, 3), (2, 1, 7), (5, 300, 2)])
@pytest.mark.parametrize("threads", [1, 256])
def test_normalisation(monkeypatch, dtype, shape, threads):
    monkeypatch.setattr(normalization, "ROW_THREADS", threads)

    def run(x, dy, copy, mean, variance, y, dx):
        mean[...], variance[...] = normalization.moments(x, copy=copy)
        scale = 1 / (variance + 0.5) ** 0.5
        normalization.normalize(x, mean, scale, out=y)
        normalization.normalize_grad(x, dy, mean, scale, out=dx)

    x, dy = 3 + random(*shape, dtype=dtype), random(*shape, dtype=dtype, seed=1)
    sums = [np.full((shape[0], 1, shape[2]), 7, dtype) for _ in range(2)]
    assert_same(run, x, dy, np.full_like(x, 7), *sums, np.full_like(x, 7), np.full_like(x, 7), written=5)


@pytest.mark.parametrize("first", [1000.0, 0.0, -5000.0])
def test_little_is_lost_in_a_variance_far_from_zero(first):
    x = 1000 + random(4, 5000, 1)
    x[:, 0] = first
    _, variance = normalization.moments(array.cupy.asarray(x))
    expected = x.astype(np.float64).var(axis=1)[:, 0]
    np.testing.assert_allclose(variance.get()[:, 0, 0], expected, rtol=1e-4)


def test_a_variance_is_not_negative():
    x = array.cupy.full((1, 100352, 1), 9.132703, np.float32)
    assert normalization.moments(x)[1].get() >= 0


@pytest.mark.parametrize("largest", [0, 1, 2])
def test_softmax_of_scores_far_apart(dtype, largest):
    x = np.zeros((3, 5), dtype)
    x[largest] = 200
    assert_same(softmax.softmax, x, np.full_like(x, 7), written=1)


def test_a_label_that_is_no_class_makes_a_loss_that_is_no_number():
    probability, labels = (
        array.cupy.asarray(np.full((3, 4), 1 / 3)),
        array.cupy.asarray(np.array([0, 3, -1, 2])),
    )
    assert np.isnan(softmax.cross_entropy(probability, labels).get()).tolist() == [False, True, True, False]


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
def test_dropout(dtype, ratio):
    bits = np.random.default_rng(1).integers(0, 1 << 16, (5, 3, 7)).astype(np.uint16)
    threshold, x = dropout.threshold_for(ratio), random(5, 3, 7, dtype=dtype)
    bits[0, 0] = threshold
    for scale in (1.0, dropout.scale_for(threshold)):
        assert_same(
            lambda x, bits, y, scale=scale: dropout.drop(x, bits, threshold, scale, y),
            x,
            bits,
            np.full_like(x, 7),
            written=1,
        )


@pytest.mark.parametrize("name", update_rules)
@pytest.mark.parametrize(
    ("options", "clipped"),
    [({}, False), ({"decay": 0.01}, True), ({"decay": 0.02, "is_l1": True, "batches": 3}, False)],
)
def test_an_update(dtype, name, options, clipped):
    spec = parse_solver(
        "net: none\nbase_lr: 0.1\nlr_policy: fixed\nmomentum: 0.9\nrms_decay: 0.98\ndelta: 0.001\n"
    )
    rule = update_rules[name](spec)
    history = [np.abs(random(5, 4, dtype=dtype, seed=2 + i)) for i in range(rule.histories)]

    def run(w, g, *history):
        clip = None
        if clipped:
            clip = np.array(0.5, dtype)
            clip = clip if isinstance(w, np.ndarray) else array.cupy.asarray(clip)
        update(rule, w, g, history, UpdateStep(rate=0.3, iteration=4, clip=clip, **options))

    w = random(5, 4, dtype=dtype)
    w[0, 0] = 0
    assert_same(run, w, random(5, 4, dtype=dtype, seed=1), *history, written=2 + rule.histories)


def test_a_kernel_refuses_an_array_that_is_not_contiguous():
    x = array.cupy.asarray(random(4, 6))
    with pytest.raises(ValueError, match="kernel drop: an array is not contiguous"):
        dropout.drop(x[:, ::2], array.cupy.asarray(np.zeros((4, 3), np.uint16)), 0, 1.0, x[:, 1::2])


def test_places_beyond_two_to_the_31_are_reached_by_64_bits():
    class Large:
        size = 2**31 - MOST_BLOCKS * THREADS

    class Small:
        size = Large.size - 1

    assert needs_64_bits(5, [Small(), Large()])
    assert not needs_64_bits(5, [Small()])
    assert needs_64_bits(Large.size, [])


@needs_compiler
def test_one_thread_goes_on_where_the_grid_ends():
    add_one = Kernel("add_one", "KERNEL add_one(Index count, T* x) { EACH(i) x[i] += 1; }")
    x = np.zeros(1000, np.float32)
    run = cuda_on_cpu.compile_kernel(add_one.code(T=np.float32, Index=np.int64), "add_one")
    run((3,), (7,), (np.int64(997), x))
    assert x.tolist() == [1.0] * 997 + [0.0] * 3


# -- all of this once more, under sanitizers -------------------------------------------------------------


def sanitizer_runtime():
    """The shared library of the address sanitizer; "" where the compiler has none."""
    if cuda_on_cpu.MISSING:
        return ""
    command = [cuda_on_cpu.COMPILER, "-print-file-name=libasan.so"]
    path = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return path if Path(path).is_absolute() and Path(path).exists() else ""


def run_sanitized():
    return SideRun.of_pytest(
        "-x", __file__, MINICAFFE_SANITIZE="1", LD_PRELOAD=sanitizer_runtime(), ASAN_OPTIONS="detect_leaks=0",
    )  # fmt: skip


@pytest.mark.cpu_only("the kernels are the same")
@pytest.mark.skipif(cuda_on_cpu.SANITIZE, reason="this is that run")
@pytest.mark.skipif(not sanitizer_runtime(), reason="the compiler has no address sanitizer")
@pytest.mark.side_run(begin=run_sanitized)
def test_no_kernel_reads_or_writes_out_of_bounds_or_does_what_is_undefined(side_run):
    status, output = side_run
    assert status == 0, output[-6000:]


@pytest.mark.skipif(not cuda_on_cpu.SANITIZE, reason="needs the sanitizers' runtime")
def test_the_sanitizers_see_a_planted_fault():
    source = "KERNEL beyond(Index count, T* x) { EACH(i) x[i + 1] = 0; }"
    code = Kernel("beyond", source).code(T=np.float32, Index=np.int32)
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; import numpy as np\nfrom tests.cuda import cuda_on_cpu\n"
        f"run = cuda_on_cpu.compile_kernel({code!r}, 'beyond')\n"
        "run((1,), (1,), (np.int32(4096), np.zeros(4096, np.float32)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def test_every_kernel_is_compared_here(request):
    if hasattr(request.config, "workerinput"):
        pytest.skip("a worker runs a part of this file; the run under sanitizers runs all of it")
    run = {item.originalname for item in request.session.items if item.path == request.path}
    if not run >= {name for name in globals() if name.startswith("test_")}:
        pytest.skip("only a part of this file is run")
    assert set(all_kernels()) <= LAUNCHED
