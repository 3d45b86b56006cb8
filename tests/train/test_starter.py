"""``minicaffe new``: a folder of pictures becomes a net that trains, and answers with the names of classes."""

import io
import logging
import os

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.data.decode import decode_image
from minicaffe.errors import DataError, SpecError, WriteError
from minicaffe.files.spec_formats import open_solver
from minicaffe.train.starter.folder import Picture, survey
from minicaffe.train.starter.project import write_project
from minicaffe.train.starter.specs import Plan, deploy_text, solver_text, train_text
from minicaffe.train.starter.split import split

COLOURS = {"blue sky": (60, 90, 220), "grass": (40, 180, 60), "rot": (210, 40, 50)}


def write_pictures(folder, count=8, size=(20, 24), colours=COLOURS, suffix="png"):
    """Pictures of one colour for each class, each with noise of its own."""
    rng = np.random.default_rng(3)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (*size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"p{i}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("own") / "pictures")


@pytest.fixture(scope="module")
def project(pictures):
    return write_project(pictures.parent / "net", survey(pictures), 0.25)


def test_three_commands_lead_from_a_folder_to_the_name_of_a_class(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    folder = tmp_path / "first net"
    assert main(["new", str(folder), "--images", "pictures", "--size", "16"]) == 0
    told = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "rot       6 pictures to train on, 2 to validate with" in told
    assert f"minicaffe train '{folder}/solver.yaml'" in told
    solver = folder / "solver.yaml"
    solver.write_text(solver.read_text().replace("max_iter: 400", "max_iter: 12"))
    assert main(["train", str(solver)]) == 0
    weights = str(folder / "solver_iter_12.npz")
    capsys.readouterr()
    assert main(["classify", str(folder / "deploy.yaml"), "--weights", weights, "pictures/grass/p1.png"]) == 0
    answer = capsys.readouterr().out.splitlines()
    assert answer[answer.index("pictures/grass/p1.png") + 1].endswith("  grass")
    assert main(["test", str(folder / "train.yaml"), "--weights", weights, "--confusion"]) == 0
    assert "blue sky" in capsys.readouterr().out
    names = {"train.yaml", "deploy.yaml", "solver.yaml", "train.txt", "validation.txt", "classes.txt"}
    assert names <= set(os.listdir(folder)) and os.listdir(tmp_path) == ["first net"]


def test_a_net_gets_the_mean_of_its_training_pictures_and_each_picture_once(pictures, project):
    trained = {line.rsplit(" ", 1)[0] for line in (project.folder / "train.txt").read_text().splitlines()}
    kept = {line.rsplit(" ", 1)[0] for line in (project.folder / "validation.txt").read_text().splitlines()}
    assert not trained & kept and len(trained | kept) == 24 and len(kept) == 6
    mean = np.mean([decode_image(pictures / name).mean(axis=(1, 2)) for name in trained], axis=0)
    with mc.Net(project.folder / "train.yaml") as net:
        np.testing.assert_allclose(net.preparation.mean, mean, atol=0.06)
        assert net.class_names == ["blue sky", "grass", "rot"]
        labels = net.forward(["label"])["label"]
    np.testing.assert_array_equal(np.bincount(labels.astype(int)), [2, 2, 2])


def test_the_split_is_the_same_share_of_each_class_and_keeps_its_sides_when_pictures_are_added():
    pictures = [
        Picture(f"{c}/{i}.jpg", c, (8, 8), False, (0.0,)) for c, n in enumerate((100, 7, 4)) for i in range(n)
    ]
    trained, kept = split(pictures, 0.2)
    assert [sum(p.label == c for p in kept) for c in range(3)] == [20, 1, 1]
    assert sorted(p.name for p in (*trained, *kept)) == sorted(p.name for p in pictures)
    assert (trained, kept) == split(list(reversed(list(reversed(pictures)))), 0.2)
    for name in ("new", "00", "99"):  # wherever that is among the names: those of a camera have an order
        more = [*pictures, *(Picture(f"0/{name}{i}.jpg", 0, (8, 8), False, (0.0,)) for i in range(10))]
        moved = {p.name for p in kept} - {p.name for p in split(more, 0.2)[1]}
        assert len(moved) <= 4
    of_first = sorted(p.name for p in pictures if p.label == 0)
    chosen = [of_first.index(p.name) for p in kept if p.label == 0]
    assert 30 < np.mean(chosen) < 70 and max(np.diff(sorted(chosen))) > 1  # from all over the folder


def test_pictures_of_all_kinds_are_read_and_what_cannot_be_read_is_named(tmp_path, caplog):
    folder = write_pictures(tmp_path / "p", count=4, colours={"a": (200, 10, 10), "b": (10, 10, 200)})
    Image.new("L", (30, 10), 99).save(folder / "a" / "grey.jpg")
    Image.new("P", (9, 9)).save(folder / "a" / "palette.gif")
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera held sideways
    Image.new("RGB", (40, 16), (1, 2, 3)).save(folder / "a" / "sideways.jpg", exif=exif)
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    (folder / "b" / "copy.png").write_bytes((folder / "b" / "p0.png").read_bytes())
    (folder / "b" / "more").mkdir()
    Image.new("L", (5, 5)).save(folder / "b" / "more" / "deep.png")
    Image.new("L", (5, 5)).save(folder / "loose.png")
    (folder / "empty").mkdir()
    (folder / "a" / "notes.txt").write_text("no picture")
    with caplog.at_level(logging.WARNING, "minicaffe"):
        found = survey(folder)
    assert found.classes == ["a", "b"] and found.counts() == [7, 4] and not found.is_grey
    assert next(p.size for p in found.pictures if p.name.endswith("sideways.jpg")) == (40, 16)
    told = "\n".join(record.getMessage() for record in caplog.records)
    for part in ("a/broken.png (cannot identify it", "b/p0.png (the same as b/copy.png)", "empty"):
        assert part in told
    assert "left out, as in no folder of a class: 1" in told
    assert f"within that of a class: 1 picture of {folder / 'b' / 'more'}; move what is there into" in told
    assert "no pictures that are read; convert them to JPEG or PNG: 1 (a/notes.txt)" in told
    assert "fewer than 20 pictures, of which little can be learned: 2 (a (7), b (4))" in told


def test_too_few_pictures_of_a_class_are_refused_before_any_is_read(tmp_path):
    folder = write_pictures(tmp_path / "p", 4, colours={"a": (1, 2, 3), "b": (9, 9, 9)})
    (folder / "c").mkdir()
    (folder / "c" / "one.png").touch()

    def started(count):
        raise AssertionError("pictures are read")

    with pytest.raises(DataError, match=r"too few pictures of c \(1\)"):
        survey(folder, started)


def test_a_first_net_is_not_tested_before_it_has_statistics(project):
    assert open_solver(project.folder / "solver.yaml").test_initialization is False


REFUSED = {
    "no folder": (lambda p: None, "cannot be read (No such file or directory)"),
    "no classes": (lambda p: p.mkdir(), "no pictures in sub-folders; make one folder for each class"),
    "pictures beside each other": (
        lambda p: (p.mkdir(), Image.new("L", (4, 4)).save(p / "x.png")),
        "no pictures in sub-folders (and 1 in it, of no class); make one",
    ),
    "train and test in it": (
        lambda p: write_pictures(p / "train", 1),
        "its folders (train) hold folders, not pictures; give the one that has a folder for each class, as in",
    ),
    "files of a format that is not read": (
        lambda p: (
            (p / "a").mkdir(parents=True),
            (p / "a" / "IMG_1.HEIC").touch(),
            (p / "a" / "x.HEIC").touch(),
        ),
        "none of the 2 files in its folders is a picture that is read, as a/IMG_1.HEIC; convert them to JPEG or",
    ),
    "one class": (lambda p: write_pictures(p, 4, colours={"a": (1, 2, 3)}), "pictures of one class only, a"),
    "few pictures": (lambda p: write_pictures(p, 3), "too few pictures of blue sky (3), grass (3), rot (3)"),
    "a name with a space": (
        lambda p: write_pictures(p, 4, colours={" a": (1, 2, 3), "b": (3, 2, 1)}),
        "the name ' a' begins or ends with a space",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_is_none_of_classes_is_refused_with_what_to_do(case, tmp_path):
    make, problem = REFUSED[case]
    make(tmp_path / "p")
    with pytest.raises(DataError) as error:
        survey(tmp_path / "p")
    assert problem in str(error.value)


def test_nothing_is_written_over_or_among_the_pictures(pictures, project, capsys):
    for place, problem in (
        (project.folder, "exists already"),
        (pictures / "net", "lies in"),
        (pictures, "exists"),
    ):
        assert main(["new", str(place), "--images", str(pictures)]) == 2
        assert problem in capsys.readouterr().err
    assert not (pictures / "net").exists()
    with pytest.raises(WriteError, match="cannot be written"):
        write_project(pictures.parent / "no" / "net", survey(pictures), 0.2)


@pytest.mark.parametrize("size", ["15", "1025", "1e3"])
def test_a_size_that_no_net_can_be_trained_at_is_refused(size, pictures, capsys):
    place = pictures.parent / "sized"
    with pytest.raises(SystemExit, match="2"):
        main(["new", str(place), "--images", str(pictures), "--size", size])
    assert "--size" in capsys.readouterr().err and not place.exists()


def test_an_empty_folder_may_be_given_and_pictures_by_an_absolute_path_are_found_from_anywhere(
    pictures, tmp_path
):
    (tmp_path / "net").mkdir()
    made = write_project(tmp_path / "net", survey(pictures.resolve()), 0.2)
    assert made.plan.root == f"{pictures.resolve()}/"
    os.rename(tmp_path / "net", tmp_path / "moved")
    with mc.Net(tmp_path / "moved" / "train.yaml") as net:
        net.forward()


SIZES = {
    "small colour": (20, 24, True, (1, 3, 32, 32)),
    "small grey": (28, 28, False, (1, 1, 32, 32)),
    "large colour": (90, 70, True, (1, 3, 64, 64)),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_net_is_for_pictures_of_their_size_and_colour(case, tmp_path):
    height, width, is_colour, shape = SIZES[case]
    colours = COLOURS if is_colour else {"dark": (30,) * 3, "light": (200,) * 3}
    folder = write_pictures(tmp_path / "p", 4, (height, width), colours, "jpg")
    if not is_colour:
        for path in folder.glob("*/*.jpg"):
            Image.open(path).convert("L").convert("RGB").save(path, quality=95)  # grey, stored in colours
    made = write_project(tmp_path / "net", survey(folder), 0.25)
    assert len(made.plan.mean) == shape[1]
    assert mc.Net(made.folder / "deploy.yaml").blobs["data"].shape == shape
    with mc.Solver(made.folder / "solver.yaml") as solver:
        assert solver.net.forward(end="pictures")["data"].shape == (32, *shape[1:])
        assert solver.test_nets[0].forward(end="pictures")["data"].shape[1:] == shape[1:]
        mirrored = solver.net.layers[0].spec.transform_param.mirror
    assert mirrored == is_colour


def test_the_mean_of_a_net_for_grey_pictures_is_over_all_channels(tmp_path):
    """Grey pictures may be stored as colours that differ by a few levels, as a scanner's."""
    folder = write_pictures(tmp_path / "p", 4, colours={"dark": (30,) * 3, "light": (200,) * 3})
    for path in folder.glob("*/*.png"):
        grey = np.asarray(Image.open(path).convert("L")).clip(0, 250)
        Image.fromarray(np.stack([grey, grey + 1, grey + 3], axis=2)).save(path)
    made = write_project(tmp_path / "net", survey(folder), 0.25)
    pixels = [decode_image(folder / picture.name).mean() for picture in made.trained]
    assert made.plan.mean == (pytest.approx(np.mean(pixels)),)


@pytest.mark.parametrize(("validated", "batches"), [(1, 1), (200, 1), (10_000, 50), (1001, 7), (401, 3)])
def test_validation_takes_all_pictures(validated, batches):
    plan = Plan("n", "r/", 2, 9 * validated, validated, 32, (1.0,))
    assert plan.test_batches == batches and 0 <= batches * plan.test_batch - validated < 5
    assert 400 <= plan.iterations <= 8000
    for text in (train_text, deploy_text, solver_text):
        assert "$" not in text(plan)


# -- class_names of a list --------------------------------------------------------------------------------------


def list_net(folder, names="names.txt", labels=(0, 1), phase="TRAIN"):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "png")
    (folder / "x.png").write_bytes(buffer.getvalue())
    (folder / "list.txt").write_text("".join(f"x.png {label}\n" for label in labels))
    (folder / "net.yaml").write_text(
        "layer:\n- {name: d, type: ImageData, top: [data, label], "
        f"image_data_param: {{source: list.txt, class_names: {names}}}}}\n"
    )
    return mc.Net(folder / "net.yaml", phase=phase.lower())


def test_for_caffe_the_names_of_a_list_are_left_out(tmp_path):
    (tmp_path / "names.txt").write_text("cat\nsea lion\n")
    notes = mc.export(list_net(tmp_path), tmp_path / "x.prototxt", tmp_path / "x.caffemodel")
    assert "class_names" not in (tmp_path / "x.prototxt").read_text()
    assert any("Caffe does not know class_names" in note for note in notes)


def test_a_list_may_have_names_for_its_labels_and_its_weights_keep_them(tmp_path):
    (tmp_path / "names.txt").write_text("cat\nsea lion\n")
    net = list_net(tmp_path)
    assert net.class_names == ["cat", "sea lion"]
    net.save(tmp_path / "w.npz")
    other = mc.Net(tmp_path / "net.yaml", class_names=["sea lion", "dog", "cat"])  # as trained
    assert [float(other.forward(["label"])["label"][0]) for _ in range(2)] == [2, 0]


@pytest.mark.parametrize(
    ("names", "labels", "problem"),
    [
        ("cat\n", (0, 1), "list.txt:2: label 1, but class_names has 1 names"),
        ("cat\ndog\n", (0, 0.5), "list.txt:2: label 0.5, but class_names has 2 names"),
        ("cat\ncat\n", (0, 1), "the class 'cat' is there twice"),
        ("\n", (0, 1), "names no classes"),
        (None, (0, 1), "no such file of class names"),
    ],
)
def test_names_that_do_not_fit_the_labels_are_refused(names, labels, problem, tmp_path):
    if names is not None:
        (tmp_path / "names.txt").write_text(names)
    with pytest.raises((DataError, SpecError)) as error:
        list_net(tmp_path, labels=labels)
    assert problem in str(error.value)
