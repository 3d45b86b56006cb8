"""Data layers in nets: shapes, batches, their position in a snapshot, and errors that name the layer."""

import gc
import threading
import time

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class

SAMPLE = """
layer:
- name: mnist
  type: Data
  top: [data, label]
  transform_param: {scale: 0.00390625, pad: 2, crop_size: 28}
  data_param: {source: sample/mnist-train, batch_size: 64, shuffle: true}
"""


def write_spec(folder, text):
    (folder / "net.yaml").write_text(text)
    return folder / "net.yaml"


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minicaffe-prefetch"]


def batches(net, count):
    return [{name: np.array(array) for name, array in net.forward().items()} for _ in range(count)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_sample_trains_from_a_spec(make_net):
    net = make_net(SAMPLE, phase="train", seed=1)
    assert net.blobs["data"].shape == (64, 1, 28, 28) and net.blobs["label"].shape == (64,)
    batch = batches(net, 1)[0]
    assert batch["data"].min() == 0 and 0.9 < batch["data"].max() < 1
    assert set(batch["label"]) <= set(range(10))
    net.close()


def test_equal_seeds_give_equal_batches_and_others_do_not(make_net):
    one, same, other = (make_net(SAMPLE, phase="train", seed=seed) for seed in (1, 1, 2))
    first = batches(one, 70)  # past the end of an epoch, 62.5 batches
    assert_same(first, batches(same, 70))
    assert not np.array_equal(first[0]["label"], batches(other, 1)[0]["label"])
    for net in (one, same, other):
        net.close()


def test_state_is_the_number_of_the_next_batch_and_resumes_bit_for_bit(make_net):
    net = make_net(SAMPLE, phase="train", seed=1)
    whole = batches(net, 9)
    resumed = make_net(SAMPLE, phase="train", seed=1)
    batches(net, 2)
    layer = net.layers[0]
    assert layer.state()["next_batch"] == 11
    resumed.layers[0].restore({"next_batch": 4})
    assert_same(batches(resumed, 5), whole[4:])
    with pytest.raises(mc.DataError, match="next_batch"):
        layer.restore({"next_batch": -1})
    net.close()
    resumed.close()


def test_close_ends_the_thread(make_net):
    net = make_net(SAMPLE, phase="train")
    net.forward()
    assert prefetch_threads()
    net.close()
    assert not prefetch_threads()


def test_dropping_a_net_ends_its_thread(make_net):
    net = make_net(SAMPLE, phase="train")
    net.forward()
    del net
    gc.collect()
    deadline = time.monotonic() + 60
    while (left := prefetch_threads()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def test_one_top_gives_images_without_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(5, dtype=np.uint8)[:, None, None] + np.zeros((2, 3), np.uint8))
    text = "layer: [{name: data, type: Data, data_param: {source: a.npz, batch_size: 2, prefetch: 1}}]"
    net = mc.Net(write_spec(tmp_path, text))
    assert [batch["data"][:, 0, 0, 0].tolist() for batch in batches(net, 3)] == [[0, 1], [2, 3], [4, 0]]
    net.close()
    two_tops = text.replace("type: Data", "type: Data, top: [data, label]")
    with pytest.raises(mc.DataError, match=r"net\.yaml:1: layer 'data': .*a\.npz: no labels"):
        mc.Net(write_spec(tmp_path, two_tops))


def test_lmdb_is_read_by_a_net_for_training_and_one_for_testing(tmp_path, rng):
    lmdb = pytest.importorskip("lmdb")
    pixels = rng.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 22) as db, db.begin(write=True) as writing:
        for i, image in enumerate(pixels):
            one = message_class("Datum")(channels=3, height=8, width=8, data=image.tobytes(), label=i)
            writing.put(f"{i:08}".encode(), one.SerializeToString())
    path = write_spec(
        tmp_path,
        """
        layer:
        - name: db
          type: Data
          top: [data, label]
          transform_param: {mean_value: [1, 2, 3]}
          data_param: {source: db, batch_size: 4, backend: LMDB}
        """,
    )
    for net in [mc.Net(path, phase=phase) for phase in ("train", "test")]:
        batch = batches(net, 2)[1]
        expected = pixels[[4, 5, 0, 1]] - np.array([1, 2, 3], np.float32)[:, None, None]
        np.testing.assert_array_equal(batch["data"], expected)
        np.testing.assert_array_equal(batch["label"], [4, 5, 0, 1])
        net.close()


IMAGES = """
layer:
- name: images
  type: ImageData
  top: [data, label]
  image_data_param: {source: SOURCE, batch_size: N, OPTIONS}
"""


def images_spec(source, batch_size=3, options="shuffle: false"):
    return IMAGES.replace("SOURCE", source).replace("N,", f"{batch_size},").replace("OPTIONS", options)


def write_images(folder, heights):
    for number, height in enumerate(heights):
        path = folder / ("odd" if number % 2 else "even") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, 5, 3), number, np.uint8)).save(path)


def test_image_folder_and_list_give_batches(tmp_path):
    write_images(tmp_path / "set", [4] * 4)
    net = mc.Net(write_spec(tmp_path, images_spec("set")))
    assert net.blobs["data"].shape == (3, 3, 4, 5)
    batch = batches(net, 1)[0]
    assert batch["label"].tolist() == [0, 0, 1] and batch["data"][:, 0, 0, 0].tolist() == [0, 2, 1]
    net.close()
    (tmp_path / "list.txt").write_text("odd/3.png 7\neven/0.png 8\n")
    options = "root_folder: set, is_color: false, new_height: 2, new_width: 6"
    net = mc.Net(write_spec(tmp_path, images_spec("list.txt", options=options)))
    batch = batches(net, 1)[0]
    assert batch["data"].shape == (3, 1, 2, 6) and batch["label"].tolist() == [7, 8, 7]
    net.close()


def test_batches_of_one_may_differ_in_size_and_the_net_follows(tmp_path):
    write_images(tmp_path / "set", [4, 4, 6])
    text = images_spec("set", batch_size=1) + "- {name: relu, type: ReLU, bottom: data, top: relu}\n"
    net = mc.Net(write_spec(tmp_path, text))
    assert [batch["relu"].shape[2] for batch in batches(net, 4)] == [4, 6, 4, 4]
    net.close()


def test_images_of_one_batch_that_differ_in_size_are_an_error_with_the_mend(tmp_path):
    write_images(tmp_path / "set", [4, 4, 6])
    net = mc.Net(write_spec(tmp_path, images_spec("set", batch_size=3)))
    with pytest.raises(
        mc.DataError,
        match=r"net\.yaml:3: layer 'images': .*even.2\.png: 3 × 6 × 5, .*3 × 4 × 5; give new_height",
    ):
        net.forward()
    net.close()


def test_new_height_alone_is_an_error_that_names_its_line(tmp_path):
    with pytest.raises(mc.SpecError, match=r"net\.yaml:6: layer 'images': image_data_param\.new_width"):
        mc.Net(write_spec(tmp_path, images_spec("set", options="new_height: 3")))


def test_missing_source_names_file_line_and_layer(tmp_path):
    with pytest.raises(
        mc.DataError, match=r"net\.yaml:3: layer 'images': gone: no such image list or folder"
    ) as raised:
        mc.Net(write_spec(tmp_path, images_spec("gone")))
    assert "minicaffe convert NET --input-shape data:1,3,H,W -o DIR" in str(raised.value)


LMDB = "data_param: {source: gone_lmdb, batch_size: 4, backend: LMDB}"


@pytest.mark.parametrize(
    ("data", "weights", "shape"),
    [
        (f"Data, {LMDB}", False, "data:N,C,H,W -o DIR' gives it an input of that size (write"),
        (f"Data, {LMDB}", True, "data:1,6,H,W -o DIR' gives it an input of that size (write numbers for H, W)"),
        (f"Data, {LMDB}, transform_param: {{crop_size: 227}}", True, "data:1,6,227,227 -o DIR' gives it"),
        (f"Data, {LMDB}, transform_param: {{mean_value: [1, 2, 3]}}", False, "data:1,3,H,W -o DIR'"),
        (f"Data, {LMDB}, transform_param: {{mean_file: mean.npy}}", False, "data:1,4,20,30 -o DIR'"),
        (f"Data, {LMDB}, transform_param: {{mean_file: mean.npy, crop_size: 12}}", False, "data:1,4,12,12"),
        (f"Data, {LMDB}, transform_param: {{force_gray: true, mean_file: none.npy}}", False, "data:1,1,H,W"),
        ("ImageData, image_data_param: {source: gone, is_color: false, new_height: 9, new_width: 7}", False,
         "data:1,1,9,7 -o DIR'"),
        ("ImageData, image_data_param: {source: gone, new_height: 9, new_width: 7}", True, "data:1,6,9,7 -o DIR'"),
    ],
)  # fmt: skip
def test_missing_data_tell_how_to_look_at_the_net_with_its_own_shape(tmp_path, data, weights, shape):
    """Channels as the first layer's weights have them, wherever these are known; never a size of another net."""
    np.save(tmp_path / "mean.npy", np.zeros((4, 20, 30), np.float32))
    conv = "\n- {name: conv, type: Convolution, convolution_param: {num_output: 2, kernel_size: 3, group: 2}}"
    inputs = "{name: data, type: Input, input_param: {shape: {dim: [1, 6, 5, 5]}}}"
    mc.Net.from_text(f"layer:\n- {inputs}{conv}").save(tmp_path / "w.npz")
    spec = write_spec(tmp_path, f"layer:\n- {{name: data, type: {data}}}{conv}")
    with pytest.raises(mc.DataError) as raised:
        mc.Net(spec, tmp_path / "w.npz" if weights else None)
    assert f"--input-shape {shape}" in str(raised.value)


def test_hdf5_tops_are_data_sets_of_any_shape(tmp_path):
    h5py = pytest.importorskip("h5py")
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            rows = np.arange(3) + 3 * number
            file["sum"], file["parts"] = rows, rows[:, None, None] * np.ones((2, 4))
    (tmp_path / "list.txt").write_text("0.h5\n1.h5\n")
    param = "hdf5_data_param: {source: list.txt, batch_size: 4}"
    text = f"layer: [{{name: h, type: HDF5Data, top: [parts, sum], {param}}}]"
    net = mc.Net(write_spec(tmp_path, text))
    assert net.blobs["parts"].shape == (4, 2, 4) and net.blobs["sum"].shape == (4,)
    batch = batches(net, 2)[1]
    assert batch["sum"].tolist() == [4, 5, 0, 1] and batch["parts"][:, 1, 3].tolist() == [4, 5, 0, 1]
    net.close()


MEMORY = """
layer:
- name: m
  type: MemoryData
  top: [data, label]
  memory_data_param: {batch_size: 2, channels: 1, height: 3, width: 4}
"""


def test_memory_data_gives_out_its_arrays_over_and_over(make_net, rng):
    net = make_net(MEMORY)
    images = rng.random((4, 1, 3, 4)).astype(np.float32)
    net.layers[0].set_input_arrays(images, np.arange(4).reshape(4, 1, 1, 1))
    taken = batches(net, 3)
    assert [batch["label"].tolist() for batch in taken] == [[0, 1], [2, 3], [0, 1]]
    np.testing.assert_array_equal(taken[1]["data"], images[2:])


def test_memory_data_names_what_does_not_fit(make_net):
    net = make_net(MEMORY)
    layer = net.layers[0]
    with pytest.raises(mc.DataError, match="call the layer's set_input_arrays"):
        net.forward()
    with pytest.raises(mc.DataError, match="3 images are not a multiple of batch_size 2"):
        layer.set_input_arrays(np.zeros((3, 1, 3, 4)), np.zeros(3))
    with pytest.raises(mc.DataError, match=r"expected \(n, 1, 3, 4\)"):
        layer.set_input_arrays(np.zeros((2, 1, 3, 5)), np.zeros(2))
    with pytest.raises(mc.DataError, match="2 images, but 3 labels"):
        layer.set_input_arrays(np.zeros((2, 1, 3, 4)), np.zeros(3))
