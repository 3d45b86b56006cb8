"""Making a report: recording, packing, and the page around it."""

from __future__ import annotations

import html
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minicaffe.classify.classifier import Classifier
from minicaffe.core.net import Net, expect_net
from minicaffe.errors import DataError, counted
from minicaffe.files.atomic import write_text
from minicaffe.inspect.drawing import svg_of
from minicaffe.inspect.report import ladder, weights
from minicaffe.inspect.report.facts import facts, told_zeros
from minicaffe.inspect.report.live import live
from minicaffe.inspect.report.options import MB, Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.page import VIEWS, as_json, page
from minicaffe.inspect.report.pictures import Pictures, from_data, from_images, from_inputs, has_data
from minicaffe.inspect.report.pixels import shrunk
from minicaffe.inspect.report.record import Recording, copy_of, record
from minicaffe.inspect.report.views import (
    answer,
    backward,
    convolution,
    layer,
    low_rank,
    test_set,
    training,
)
from minicaffe.inspect.summary import count_computed
from minicaffe.train.in_notebook import shown_in_notebook
from minicaffe.train.preview import count_multiply_adds

logger = logging.getLogger("minicaffe")
MODULES = {  # views that need more than the recording
    "layer": layer,
    "convolution": convolution,
    "low_rank": low_rank,
    "answer": answer,
    "backward": backward,
    "training": training,
    "test_set": test_set,
}
MAPS, THUMBNAILS = 0.4, 0.1  # shares of the file
SIDES = (256, 192, 128, 96, 64)  # pixels of thumbnails
RAIL = 264  # pixels for the drawing of most nets beside the view
PAGE, STAGE, LAYER = 100_000, 1_000, 1_200  # bytes of the page without data, and of what is said of each
LEAST = 500  # bytes of what is said of a layer and its top, where there is little to say
FORMAT = 1


@dataclass(frozen=True)
class Limit:
    """The size that a report may have."""

    net: Net
    drawings: tuple[str, str]
    max_size: float  # MB
    images: int

    def check_before(self) -> None:
        """Raise DataError where page, drawings and words alone are too large: nothing has to be computed then."""
        self.check(self._page + self._drawn + LEAST * len(self.net.layers), Packer())

    def check(self, size: int, packer: Packer) -> None:
        """Raise DataError, which says what takes most, where a report of ``size`` bytes or more is too large."""
        if size <= int(self.max_size * MB):
            return
        sizes = {f"'{name}'": count for name, count in packer.sizes.items()}
        words = f"the words about {counted(len(self.net.layers), 'layer')}"
        rest = max(size - self._page - self._drawn - sum(sizes.values()), 0)
        sizes |= {"the page itself": self._page, "its drawings": self._drawn, words: rest}
        fewer = "" if self.images == 1 else ", or fewer images"
        raise DataError(
            f"the report is {size / MB:.2f} MB at the least, more than --max-size {self.max_size:g}: "
            f"{', '.join(sorted(sizes, key=lambda name: -sizes[name])[:3])} take most; give a larger size{fewer}"
        )

    @property
    def _page(self) -> int:
        return len(page("", {}, "", "", []))

    @property
    def _drawn(self) -> int:
        return sum(len(drawing.encode("utf-8", "replace")) for drawing in self.drawings)


@dataclass(frozen=True)
class Report:
    """A report of a net: ``html`` is the whole page. In a notebook it shows itself."""

    name: str
    html: str

    def save(self, path: str | Path) -> None:
        """Write the page to a file, atomically. Raises WriteError."""
        write_text(path, self.html)

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" style="width:100%;height:720px;border:0" '
            f'title="report of {html.escape(self.name)}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Report of '{self.name}', {len(self.html) / MB:.2f} MB; report.save('report.html') writes it"


@shown_in_notebook()
def report(
    net: Net,
    images: Sequence[Any] | None = None,
    labels: Sequence[int] = (),
    log: str | Path | Sequence[str | Path] = (),
    *,
    class_names: Sequence[str] = (),
    count: int = 8,
    test: int = 1000,
    snapshots: Sequence[str | Path] = (),
    sweep: str | Path | None = None,
    layers: Sequence[str] = (),
    time: int = 0,
    max_size: float = 10.0,
) -> Report:
    """A report of a net: what it computes for some images, forward and backward, as one HTML page.

    ``images`` are files, or arrays (H, W, K) as ``load_image`` reads them, and ``labels`` their classes. Without
    images they are the first ``count`` of the net's data in phase test; or, for a net without data layers, of what
    its input blobs hold. ``log`` is a training log or several; ``max_size`` of the page is in MB. The net stays as
    it is. Raises what nets raise, and DataError where there is nothing to show it, for labels and files that do not
    fit, or where ``max_size`` is too small.
    """
    expect_net(net, "report")
    logs = [log] if isinstance(log, (str, Path)) else list(log)
    options = Options(count, class_names, test, logs, snapshots, sweep, layers, time, max_size)
    with copy_of(net) as twin:
        if images is not None:
            pictures = from_images(Classifier(twin), images, labels)
        elif has_data(twin):
            if len(labels):
                raise DataError(
                    f"net '{net.name}': its labels come with its data; give labels to images of yours"
                )
            pictures = from_data(twin, count)
        else:
            for name in net.inputs:
                twin.blobs[name].reshape(*net.blobs[name].shape)
                twin.blobs[name].data[...] = net.blobs[name].data
            pictures = from_inputs(twin, labels, count)
        return make_report(twin, pictures, options)


def make_report(net: Net, pictures: Pictures, options: Options, weights_name: str | None = "given") -> Report:
    """The report of a net that is ours to run (``copy_of``). ``weights_name`` None: it is not trained."""
    if not pictures.items:
        raise DataError(f"net '{net.name}': no images to show it; give at least one")
    for name in options.layers:
        net.layer_index(name, 0)  # raises the error that names the nearest
    for view in (training, low_rank):  # a file that cannot be shown is told before the work
        view.check(net, options)
    drawings = _drawings(net)
    limit = Limit(net, drawings, options.max_size, len(pictures.items))
    limit.check_before()
    zeros = told_zeros(net)
    if zeros:
        logger.warning("%s", zeros)
    recording = record(net, pictures, options.labels, options.labels_from)
    told = STAGE * len(recording.stages) + LAYER * len(recording.layers)
    options = replace(options, overhead=PAGE + sum(map(len, drawings)) + told)
    if options.overhead > options.most_bytes // 2:
        _check_least(recording, options, drawings, limit)
    rung = ladder.choose(recording, options.budget(MAPS)).rung
    fitting = rung.images
    if fitting is not None and fitting < len(recording.images):
        fit = "1 image fits" if fitting == 1 else f"{fitting} images fit"
        logger.info("%s --max-size %g", fit, options.max_size)
        recording = recording.first(fitting)
    packer = Packer()
    data = {**_data(recording, packer, options, weights_name, rung.maps), "zeros": zeros}
    data["views"] = _views(recording, packer, options)
    # what is left is for maps, after everything else has its place
    fixed = len(as_json(data)) + STAGE * len(recording.stages) + sum(map(len, drawings)) + PAGE
    left = options.most_bytes - packer.size - fixed
    plan = ladder.choose(recording, min(options.budget(MAPS), left), keeps_images=True)
    data["stages"] = ladder.stages(recording, packer, plan, data["live"]["on"])
    text = page(f"{net.name or 'net'}: report", data, *drawings, packer.html())
    limit.check(len(text.encode("utf-8", "replace")), packer)
    return Report(net.name or "net", text)


def _check_least(recording: Recording, options: Options, drawings: tuple[str, str], limit: Limit) -> None:
    """Raise DataError where not even one image with the fewest maps would fit, before the views do their work."""
    options, packer = replace(options, overhead=options.most_bytes), Packer()  # no budget at all
    first = recording.first(1)
    plan = ladder.choose(first, 0, keeps_images=True)
    data = _data(first, packer, options, None, plan.rung.maps)
    data["stages"] = ladder.stages(first, packer, plan, False)
    limit.check(len(page("", data, *drawings, packer.html()).encode("utf-8", "replace")), packer)


def _data(
    recording: Recording, packer: Packer, options: Options, weights_name: str | None, maps: int | None
) -> dict[str, Any]:
    """What the page's JSON holds, but for the stages and what single views need."""
    net = recording.net
    runs = live(recording, packer, options)
    params = weights.parameters(recording, packer, options, maps)
    layers = [{**known, "params": params[known["name"]]} for known in facts(recording)]
    formulas = list(dict.fromkeys(known["formula"] for known in layers))
    for known in layers:  # many layers have the same
        known["formula"] = formulas.index(known["formula"])
    times = recording.milliseconds(options.time) if options.time else []
    for known, milliseconds in zip(layers, times, strict=False):
        known["ms"] = milliseconds
    scores = recording.scores
    side = next(
        (s for s in SIDES if 4 * s * s * len(recording.images) <= options.budget(THUMBNAILS)), SIDES[-1]
    )
    parameters, work = count_computed(net)[0], count_multiply_adds(net)
    return {
        "format": FORMAT,
        "title": net.name or "net",
        "net": net.spec.where.file,
        "phase": net.state.phase.lower(),
        "weights": weights_name,
        "untrained": weights_name is None,
        "totals": {
            "parameters": parameters,
            "multiply_adds": work,
            "activation_bytes": sum(layer["activation_bytes"] for layer in layers),
            "ms": sum(times) if times else None,
        },
        "classes": list(recording.classes),
        "images": [
            {
                "name": picture.name,
                "label": picture.label,
                "top": None if scores is None else int(scores[i].argmax()),
                "thumbnail": None
                if picture.thumbnail is None
                else packer.add(shrunk(picture.thumbnail, side), "u8", "images"),
            }
            for i, picture in enumerate(recording.images)
        ],
        "input": _input(recording, packer),
        "layers": layers,
        "formulas": formulas,
        "answer": recording.answer,
        "softmax": recording.softmax,
        "loss": {"name": recording.loss_name, "values": recording.losses, "problem": recording.no_gradient}
        if recording.loss_name
        else None,
        "no_gradient": recording.no_gradient,
        "live": runs,
        "order": [name for name, _ in VIEWS],
        "titles": dict(VIEWS),
        "views": {},
        "truth": {
            "parameters": parameters,
            "multiply_adds": work,
            "losses": recording.losses,
            "scores": scores,
        },
    }


def _input(recording: Recording, packer: Packer) -> dict[str, Any]:
    """Which stage the picture is, and how it was prepared."""
    found = recording.pictures.preparation
    shape = recording.images[0].arrays[recording.input].shape[1:]
    preparation = None
    if found is not None:
        mean: Any = None
        if found.mean is not None:
            mean = found.mean.tolist() if found.mean.ndim == 1 else packer.add(found.mean, "f32", "images")
        preparation = {
            "text": str(found),
            "raw_scale": 1.0 if found.raw_scale is None else found.raw_scale,
            "input_scale": 1.0 if found.input_scale is None else found.input_scale,
            "mean": mean,
            "channels": None if found.channel_swap is None else list(found.channel_swap),
        }
    return {"stage": recording.input_stage, "shape": list(shape), "preparation": preparation}


def _views(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """What single views need, by their names; "missing" says what would fill one."""
    found: dict[str, Any] = {}
    for name, _ in VIEWS:
        module = MODULES.get(name)
        found[name] = {} if module is None else module.data(recording, packer, options)
    return found


def _drawings(net: Net) -> tuple[str, str]:
    """The drawing of the net, and the one with all that is repeated; "" where nothing is."""
    folded = svg_of(net, room=RAIL)
    return folded, svg_of(net, unfold=True, room=RAIL) if 'class="fold"' in folded else ""
