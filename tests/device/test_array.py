"""The device: names, the environment, and a machine where CuPy finds no GPU."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.device import array

FakeCuda = types.SimpleNamespace(runtime=types.SimpleNamespace(driverGetVersion=lambda: 0))  # of no driver


@pytest.fixture
def cupy_without_a_driver(monkeypatch):
    monkeypatch.setattr(array, "cupy", types.SimpleNamespace(cuda=FakeCuda, ndarray=type("ndarray", (), {})))


@pytest.mark.parametrize("name", ["cpu", "auto", "CPU", " cpu "])
def test_the_cpu_can_be_named_and_is_what_auto_falls_back_to(name, cupy_without_a_driver):
    assert array.parse_device(name) == array.Device("cpu")


@pytest.mark.parametrize("name", ["gpu", "gpu:1"])
def test_a_gpu_that_is_not_there_is_refused_with_the_reason(name, cupy_without_a_driver):
    with pytest.raises(mc.DeviceError, match=f"device '{name}': CuPy is installed, but finds no CUDA driver"):
        mc.set_device(name)


def test_a_gpu_without_cupy_is_refused_with_the_package_to_install(monkeypatch):
    monkeypatch.setattr(array, "cupy", None)
    monkeypatch.setattr(array, "why_no_cupy", array.NOT_INSTALLED, raising=False)
    with pytest.raises(mc.DeviceError, match=r"CuPy is not installed.*minicaffe\[cuda12\]"):
        mc.set_device("gpu")


@pytest.mark.cpu_only("a process of its own")
@pytest.mark.parametrize(("error", "name"), [("ImportError", "broken"), ("RuntimeError", "broken")])
def test_a_cupy_that_cannot_be_imported_is_not_fatal_and_is_told(error, name, tmp_path):
    (tmp_path / "cupy.py").write_text(f"raise {error}('libcuda.so: cannot open')\n")
    command = [sys.executable, "-m", "minicaffe.cli", "device"]
    paths = os.pathsep.join([str(tmp_path), str(Path(mc.__file__).parent.parent)])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert "gpu: none usable: CuPy is installed, but broken (libcuda.so: cannot open)" in done.stdout


def test_a_driver_that_breaks_is_reported_and_not_fatal(monkeypatch):
    def broken():
        raise RuntimeError("cudaErrorUnknown")

    runtime = types.SimpleNamespace(driverGetVersion=lambda: 9000, getDeviceCount=broken)
    cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setattr(array, "cupy", types.SimpleNamespace(cuda=cuda, ndarray=type("ndarray", (), {})))
    assert array.parse_device("auto") == array.Device("cpu")
    with pytest.raises(mc.DeviceError, match=r"CUDA does not answer .cudaErrorUnknown"):
        array.parse_device("gpu")


@pytest.mark.parametrize("name", ["", "tpu", "cpu:0", "cpu:", "auto:", "gpu:", "gpu:x", "gpu:-1", "gpu 1"])
def test_a_name_that_is_no_device_is_refused(name, cupy_without_a_driver):
    with pytest.raises(mc.DeviceError, match="must be auto, cpu, gpu or gpu:N"):
        array.parse_device(name)


def test_the_environment_chooses_where_nothing_else_did(monkeypatch, cupy_without_a_driver):
    monkeypatch.setattr(array, "_current", None)
    monkeypatch.setenv("MINICAFFE_DEVICE", "gpu")
    with pytest.raises(mc.DeviceError, match="device 'gpu'"):
        array.current_device()
    monkeypatch.setenv("MINICAFFE_DEVICE", "cpu")
    assert array.current_device() == array.Device("cpu")


def test_to_device_and_back_keep_the_numbers():
    x = np.arange(3)
    np.testing.assert_array_equal(mc.to_host(mc.to_device(x, np.float32)), x)
    assert mc.to_device(x, np.float32).dtype == np.float32


def test_equal_seeds_give_equal_numbers_and_a_state_brings_them_back():
    device = array.Device()
    one, other = device.rng(7), device.rng(7)
    np.testing.assert_array_equal(one.random(5), other.random(5))
    state = array.rng_state(one)
    ahead = one.standard_normal(9)
    array.set_rng_state(other, state)
    np.testing.assert_array_equal(other.standard_normal(9), ahead)


def test_the_command_explains_what_is_missing(capsys, cupy_without_a_driver):
    assert main(["device"]) == 0
    output = capsys.readouterr().out
    assert "cpu:" in output
    assert "finds no CUDA driver" in output
    assert "auto: cpu" in output


def test_asking_for_a_gpu_on_the_command_line_gives_one_line(tmp_path, capsys, cupy_without_a_driver):
    (tmp_path / "s.yaml").write_text("net: n.yaml\nbase_lr: 1\nlr_policy: fixed\n")
    assert main(["train", str(tmp_path / "s.yaml"), "--device", "gpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_solver_mode_gpu_in_the_spec_asks_for_a_gpu_and_the_flag_overrules_it(
    tmp_path, capsys, cupy_without_a_driver
):
    (tmp_path / "s.yaml").write_text(
        "net: n.yaml\nbase_lr: 1\nlr_policy: fixed\nsolver_mode: GPU\ndevice_id: 2\n"
    )
    assert main(["train", str(tmp_path / "s.yaml")]) == 2
    assert "device 'gpu:2'" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "s.yaml"), "--device", "cpu"]) == 2
    assert "no file 'n.yaml'" in capsys.readouterr().err
