"""Nets and threads: passes take turns, each thread gets the outputs of its own inputs, no lock is left behind."""

import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.pycaffe import TEST
from minicaffe.pycaffe.net import Net as CaffeNet

NET = """
name: tiny
layer:
- {name: data, type: Input, input_param: {shape: {dim: [2, 3, 12, 12]}}}
- name: conv
  type: Convolution
  convolution_param: {num_output: 8, kernel_size: 3, weight_filler: {type: xavier}}
- {name: relu, type: ReLU, bottom: conv, top: conv}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5, weight_filler: {type: xavier}}}
"""
THREADS, PASSES = 4, 25


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path / "net.yaml"


def inputs(rng):
    return [rng.normal(size=(2, 3, 12, 12)).astype(np.float32) for _ in range(THREADS)]


def in_threads(function, images):
    """Call ``function(image)`` many times in a thread for each image, all at the same time."""
    barrier = threading.Barrier(THREADS)

    def work(image):
        barrier.wait()
        return [function(image) for _ in range(PASSES)]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, images))


@pytest.mark.cpu_only("numbers are compared bit for bit")
def test_each_thread_gets_the_outputs_of_its_own_inputs(spec, rng):
    net, images = mc.Net(spec, seed=1), inputs(rng)
    expected = [net.forward(data=image)["ip"] for image in images]
    for want, got in zip(expected, in_threads(lambda x: net.forward(data=x)["ip"], images), strict=True):
        assert all(np.array_equal(want, one) for one in got)


@pytest.mark.cpu_only("numbers are compared bit for bit")
def test_whoever_writes_into_blobs_holds_the_lock(spec, rng):
    net, images = mc.Net(spec, seed=1), inputs(rng)

    def by_hand(image):
        with net.lock:
            net.blobs["data"].data[...] = image
            net.forward()
            return net.blobs["ip"].data.copy()

    expected = [by_hand(image) for image in images]
    for want, got in zip(expected, in_threads(by_hand, images), strict=True):
        assert all(np.array_equal(want, one) for one in got)


@pytest.mark.cpu_only("numbers are compared bit for bit")
def test_threads_of_a_script_for_caffe_take_turns(spec, rng):
    net, images = CaffeNet(str(spec), TEST), inputs(rng)
    expected = [net.forward_all(data=image)["ip"] for image in images]
    for want, got in zip(expected, in_threads(lambda x: net.forward_all(data=x)["ip"], images), strict=True):
        assert all(np.array_equal(want, one) for one in got)


def test_a_pass_of_a_script_for_caffe_has_its_turn_from_its_inputs_on(spec, monkeypatch, rng):
    net, has_turn = CaffeNet(str(spec), TEST), []
    fill = net._fill
    monkeypatch.setattr(
        net, "_fill", lambda *given: has_turn.append(net.core.lock._lock._is_owned()) or fill(*given)
    )
    net.forward(data=inputs(rng)[0])
    net.backward()
    assert has_turn == [True, True]


def test_a_copy_of_a_net_does_not_wait_for_it(spec):
    net = mc.Net(spec)
    with net.lock:
        other = copy.deepcopy(net)
        thread = threading.Thread(target=other.forward)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.cpu_only("a GPU cannot be used in a forked process")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_during_another_threads_pass_does_not_wait_for_it(spec):
    net = mc.Net(spec)
    held, leave = threading.Event(), threading.Event()

    def hold():
        with net.lock:
            held.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        net.forward()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    thread.join()
