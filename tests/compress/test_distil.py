"""A student learns to answer as its teacher does: from pictures alone, by the solver, and never to its harm."""

import itertools

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress import distill
from minicaffe.compress.distill import Answer, Lesson, answers_of, own_batches
from minicaffe.core.blob import Blob
from minicaffe.errors import DataError, SpecError, TrainingError
from minicaffe.files.spec_formats import load_net
from tests import ROOT

INPUT = "{name: x, type: Input, input_param: {shape: {dim: [4, 2, 6, 5]}}}"
CONV = "{name: conv, type: Convolution, convolution_param: {num_output: 6, kernel_size: 3}%s}"
RELU = "{name: relu, type: ReLU, top: conv}"
IP = "{name: ip, type: InnerProduct, inner_product_param: {num_output: 5}}"
PROB = "{name: prob, type: Softmax}"
LOW_RANK = ", low_rank_param: {rank: 3, factored: true}"


@pytest.fixture
def learning(monkeypatch):
    """Sets the rate of lessons, and the rule."""

    def set_to(rate, rule="Adam"):
        text = f"{{net: x, type: {rule}, base_lr: {rate}, momentum: 0.9, lr_policy: fixed}}"
        monkeypatch.setattr(distill, "SCHEDULE", text)

    return set_to


def net_of(*layers, phase="test"):
    """A net of layers in YAML, with random weights."""
    net = mc.Net.from_text("layer:\n" + "".join(f"- {layer}\n" for layer in layers), phase=phase, seed=1)
    rng = np.random.default_rng(2)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = 1 if blob.shape == (1,) else rng.uniform(-0.3, 0.5, blob.shape)
    return net


def batches_of(count, name="x", shape=(4, 2, 6, 5)):
    rng = np.random.default_rng(3)
    return [{name: rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def pair():
    """A dense teacher, and a student of rank 3 with random weights, for use: Softmax is their last layer."""
    return net_of(INPUT, CONV % LOW_RANK, RELU, IP, PROB), net_of(INPUT, CONV % "", RELU, IP, PROB)


def parameters(net):
    return {f"{name}/{i}": b.data.copy() for name, blobs in net.params.items() for i, b in enumerate(blobs)}


@pytest.mark.parametrize("answer", [Answer("y", 1, 0.7), Answer("y", -1), Answer("y", None, 0.7)], ids=str)
def test_gradients_are_those_of_the_loss(answer):
    rng = np.random.default_rng(0)
    student, teacher = Blob((3, 4, 2, 5), np.float64), Blob((3, 4, 2, 5), np.float64)
    for blob in (student, teacher):
        blob.data[...] = 3 * rng.standard_normal(blob.shape)
    answer.compare(student, teacher)
    gradient = student.diff.copy()
    for place in [(0, 0, 0, 0), (1, 3, 1, 2), (2, 1, 0, 4)]:
        losses = []
        for step in (1e-5, -2e-5):
            student.data[place] += step
            losses.append(float(answer.compare(student, teacher)))
        student.data[place] += 1e-5
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5)


def test_the_loss_is_zero_only_for_the_teachers_answers():
    rng = np.random.default_rng(0)
    student, teacher = Blob((3, 4)), Blob((3, 4))
    for blob in (student, teacher):
        blob.data[...] = rng.standard_normal(blob.shape)
    for answer in (Answer("y", 1), Answer("y")):
        assert answer.compare(student, teacher) > 0.1
        assert answer.compare(teacher, teacher) == pytest.approx(0, abs=1e-6)
    teacher.data[...] = student.data + 7  # which no softmax tells apart
    assert Answer("y", 1).compare(student, teacher) == pytest.approx(0, abs=1e-5)


DATA = (
    "{name: d, type: DummyData, top: [x, label], dummy_data_param: {shape: [{dim: [4, 2, 6, 5]}, {dim: 4}]}}"
)
SCORES = Answer("ip", 1, made_into="prob")
NETS = {
    "used": ([INPUT, IP, PROB], [SCORES]),
    "in place": ([INPUT, IP, "{name: prob, type: Softmax, top: ip}"], [SCORES]),
    "pixels": ([INPUT, CONV % "", "{name: p, type: Softmax, softmax_param: {axis: 2}}"],
               [Answer("conv", 2, made_into="p")]),
    "no softmax": ([INPUT, IP], [Answer("ip")]),
    "trained": ([DATA, IP, "{name: loss, type: SoftmaxWithLoss, bottom: [ip, label], loss_weight: 0.5}"],
                [Answer("ip", 1, 0.5, "loss")]),
    "tested": ([DATA, IP, "{name: right, type: Accuracy, bottom: [ip, label]}",
                "{name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}"], [Answer("ip", 1, made_into="loss")]),
    "two layers of loss": ([DATA, IP, PROB, "{name: loss, type: MultinomialLogisticLoss, bottom: [prob, label]}"],
                           [SCORES]),
    "numbers": ([DATA, IP, "{name: loss, type: HingeLoss, bottom: [ip, label]}"], [Answer("ip")]),
    "two outputs": ([INPUT, IP, PROB,
                     "{name: box, type: InnerProduct, bottom: x, inner_product_param: {num_output: 4}}"],
                    [SCORES, Answer("box")]),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_what_a_net_answers(name):
    layers, expected = NETS[name]
    net = net_of(*layers)
    assert answers_of(net) == expected
    batches = batches_of(2)
    with_noise = net_of(*layers)
    with_noise.params["conv" if name == "pixels" else "ip"][0].data[...] *= 1.5
    with_lesson = Lesson(with_noise, net, batches)
    before = with_lesson.loss()
    assert before > 1e-3
    assert with_lesson.learn(5) < before


def test_the_student_learns_what_the_teacher_answers_without_labels(learning):
    learning(0.05)
    student, teacher = pair()
    lesson = Lesson(student, teacher, batches_of(5))
    before, kept = lesson.loss(), parameters(teacher)
    (batch,) = batches_of(1)
    student.forward(**batch)  # which prepares a pass with the weights as they are
    assert lesson.learn(100) < 0.1 * before
    np.testing.assert_allclose(student.forward(**batch)["prob"], teacher.forward(**batch)["prob"], atol=0.2)
    for name, array in parameters(teacher).items():
        np.testing.assert_array_equal(array, kept[name])


def test_of_numbers_one_in_a_batch_counts_as_it_does_among_others():
    """What a wrong number costs is told by the teacher's variance over batches: one number has none."""
    one = "{name: ip, type: InnerProduct, inner_product_param: {num_output: 1}}"
    student, teacher = net_of(INPUT, one), net_of(INPUT, one)
    student.params["ip"][1].data[...] += 0.5
    whole = np.random.default_rng(3).standard_normal((5, 2, 6, 5)).astype(np.float32)
    teacher.blobs["x"].reshape(*whole.shape)
    variance = float(teacher.forward(x=whole)["ip"].var())
    for batches in ([{"x": whole}], [{"x": whole[i : i + 1]} for i in range(5)]):
        assert Lesson(student, teacher, batches).loss() == pytest.approx(0.5**2 / 2 / variance, rel=1e-4)
    teacher.params["ip"][0].data[...] = student.params["ip"][0].data[...] = 0
    teacher.params["ip"][1].data[...] = 2
    student.params["ip"][1].data[...] = 1
    assert Lesson(student, teacher, batches_of(2)).loss() == pytest.approx(
        1 / 2 / 4
    )  # beside the number itself


def test_a_teacher_for_use_teaches_a_net_with_data_layers():
    teacher = net_of(INPUT, IP, "{name: prob, type: Softmax, top: ip}")
    student = net_of(DATA, IP, "{name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}")
    assert Lesson(student, teacher, batches_of(1)).loss() == pytest.approx(0, abs=1e-6)


def test_a_step_is_that_of_the_solver_with_its_rates_and_decay(monkeypatch):
    ip = "{name: ip, type: InnerProduct, param: [{lr_mult: 2}, {lr_mult: 0}], inner_product_param: {num_output: 3}}"
    student, teacher = net_of(INPUT, ip), net_of(INPUT, ip)
    student.params["ip"][0].data[...] *= 1.5
    student.params["ip"][1].data[...] += 1
    monkeypatch.setattr(distill, "SCHEDULE", "{net: x, base_lr: 0.25, weight_decay: 0.5, lr_policy: fixed}")
    lesson = Lesson(student, teacher, batches_of(1))
    before = parameters(student)
    (batch,) = batches_of(1)
    x, t = batch["x"].reshape(4, -1), teacher.forward(**batch)["ip"]
    gradient = (student.forward(**batch)["ip"] - t).T @ x / (t.var() * t.size)
    lesson.learn(1)
    found, w = parameters(student), before["ip/0"]
    size = np.sqrt((w * w).mean())
    np.testing.assert_allclose(found["ip/0"], w - 0.5 * size * (gradient + 0.5 * w), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found["ip/1"], before["ip/1"])


def test_statistics_and_dropout_are_as_at_test():
    layers = [
        CONV % "",
        "{name: bn, type: BatchNorm, top: conv}",
        "{name: drop, type: Dropout, top: conv}",
        IP,
        "{name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}",
    ]
    student, teacher = net_of(DATA, *layers), net_of(DATA, *layers)
    for net in (student, teacher):
        net.params["bn"][1].data[...] = 0.5
    lesson = Lesson(student, teacher, batches_of(2))
    assert lesson.loss() == pytest.approx(0, abs=1e-6)
    assert float(lesson._find_gradients(batches_of(1)[0])) == pytest.approx(0, abs=1e-6)
    student.params["ip"][0].data[...] *= 2
    before = parameters(student)
    lesson.learn(3)
    after = parameters(student)
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith("bn")


def test_a_net_learns_from_its_own_pictures_and_never_sees_their_labels(folder):
    with (
        mc.Net("net.yaml", weights="lenet.npz") as teacher,
        mc.Net("net.yaml", weights="lenet.npz") as student,
    ):
        student.params["conv2"][0].data[...] *= 0.5
        lesson = Lesson(student, teacher, own_batches(student.spec))
        assert lesson.student.inputs == ["data"]
        before = lesson.loss()
        assert lesson.learn(15) < before / 2


def test_own_batches_are_shuffled_and_do_not_end(folder):
    spec = load_net("net.yaml")
    first, *_, again = itertools.islice(own_batches(spec), 41)  # of 640 images, 16 a batch
    assert first["data"].shape == (16, 1, 28, 28)
    assert not np.array_equal(first["data"], again["data"])
    with pytest.raises(DataError, match="no data layer in phase TRAIN"):
        next(own_batches(load_net("deploy.yaml")))


def test_batches_of_a_list_come_again_and_those_of_an_iterator_end():
    student, teacher = pair()
    Lesson(student, teacher, batches_of(2)).learn(4)
    lesson = Lesson(student, teacher, iter(batches_of(distill.CHECKED + 2)))
    with pytest.raises(DataError, match="give a list, or an iterator without end"):
        lesson.learn(3)
    with pytest.raises(DataError, match="no batch is left"):
        Lesson(student, teacher, [])


def test_control_c_keeps_what_was_learned(learning, monkeypatch, caplog):
    learning(0.01)
    student, teacher = pair()
    lesson = Lesson(student, teacher, batches_of(5))
    before, update = lesson.loss(), lesson.solver.apply_update

    def interrupted(rate):
        update(rate)
        if lesson.solver.iter == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(lesson.solver, "apply_update", interrupted)
    assert lesson.learn(1000) < before
    assert "Interrupted at iteration 10" in caplog.text
    assert lesson.loss() < before


@pytest.mark.parametrize("rate", [10, 1e30])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_a_student_that_would_become_worse_stays_as_it_was(rate, learning, caplog):
    learning(rate, "SGD")
    student, teacher = pair()
    student.params["ip"][1].data[0] += 0.1
    lesson, before = Lesson(student, teacher, batches_of(5)), parameters(student)
    if rate == 10:
        lesson.learn(3)
        assert "stay as they were" in caplog.text
    else:
        with pytest.raises(TrainingError, match=r"the loss is (nan|inf).*lower base_lr \(1e\+30\)"):
            lesson.learn(3)
    for name, array in parameters(student).items():
        np.testing.assert_array_equal(array, before[name])


def test_minutes_become_iterations(monkeypatch):
    student, teacher = pair()
    lesson, before = Lesson(student, teacher, batches_of(5)), parameters(student)
    now = itertools.accumulate([0, 20, 6])  # the first three took 20 seconds, the next three 6
    monkeypatch.setattr(distill.time, "perf_counter", lambda: next(now))
    assert lesson.iterations_in(126) == 50
    now = itertools.accumulate([0, 20, 6])
    assert lesson.iterations_in(1) == 1
    for name, array in parameters(student).items():
        np.testing.assert_array_equal(array, before[name])


def test_what_cannot_be_compared_is_told():
    student, teacher = pair()
    other = net_of(INPUT, IP.replace("name: ip", "name: fc"), PROB)
    with pytest.raises(SpecError, match="no 'ip' in the net or the batches"):
        Lesson(student, other, batches_of(1))
    with pytest.raises(SpecError, match="no 'x' in the net or the batches"):
        Lesson(student, teacher, batches_of(1, name="data"))
    best = net_of(INPUT, IP, "{name: best, type: ArgMax}")
    with pytest.raises(SpecError, match="'best' is no output that has a gradient"):
        Lesson(best, best, batches_of(1))


def test_each_output_of_a_detector_is_learned(learning):
    learning(0.03)
    path = ROOT / "prototxt" / "mtcnn" / "pnet.yaml"
    rng, teacher, student = np.random.default_rng(4), mc.Net(path), mc.Net(path)
    for name, blobs in teacher.params.items():
        for blob, its in zip(blobs, student.params[name], strict=True):
            blob.data[...] = 0.3 * rng.standard_normal(blob.shape)
            its.data[...] = blob.data * (0.5 if name.startswith("conv4") else 1)
    (batch,) = batches = batches_of(1, name="data", shape=(8, 3, 12, 12))

    def missed():
        wanted, found = teacher.forward(batch["data"]), student.forward(batch["data"])
        return {name: np.abs(found[name] - wanted[name]).mean() for name in wanted}

    before = missed()
    lesson = Lesson(student, teacher, batches)
    assert {(x.blob, x.axis) for x in lesson.answers} == {("conv4-1", 1), ("conv4-2", None)}
    lesson.learn(100)
    after = missed()
    assert all(after[name] < before[name] / 2 for name in ("prob1", "conv4-2"))
