"""Batches of image files for a deploy net: each picture is prepared as ``minicaffe classify`` does it.

The pictures are those of a folder, or of a list file. They need no labels; there are labels if a list has them, or
if the folder has one folder for each class of the net.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minicaffe.classify.classifier import Classifier
from minicaffe.classify.images import load_image
from minicaffe.compress.batches import LABELS, Batch
from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.data.sources.image_list import (
    SUFFIXES,
    ImageList,
    ImageListSource,
    class_names,
    find_images,
    has_images,
    scan_all,
    scan_folder,
)
from minicaffe.device import workers
from minicaffe.device.array import Array
from minicaffe.errors import DataError, MinicaffeError, counted, listing, named
from minicaffe.train.progress import Progress

NAMED = 3  # pictures that are skipped, in one line of the log
USUAL_BATCH = 32  # of a net whose own input is for one image
BATCH_BYTES = 1 << 29  # and less, where the blobs of a net would take more than this
FEW_BATCHES = 12  # smaller batches are made of few pictures, to have so many
SEED = 0
logger = logging.getLogger("minicaffe")


class Pictures:
    """Image files, in random order, as batches for a net that takes images.

    ``net`` is a Net, or a Classifier for it, which prepares the pictures. ``source`` is a list file, a path on each
    line, with or without a label; or a folder of images; or a folder with one folder for each class. The labels of
    that are the numbers of the classes if the net has names for them (which came with the weights) and they are the
    folders'; or if it has none, but as many classes as there are folders. In other folders all images are taken,
    also in folders within, without labels. Pictures that cannot be read are skipped, when they are drawn.

    ``batch_size``: by default that of the net's input, or up to 32 if that is for one image, and less if there are
    few pictures.

    Raises ShapeError for a net that does not take images, and DataError if there are no images.
    """

    def __init__(self, net: Net | Classifier, source: str | Path, batch_size: int | None = None) -> None:
        self.classifier = net if isinstance(net, Classifier) else Classifier(net)
        self.source = str(source)
        blob = self._blob
        self._color, self._shape = blob.channels == 3, blob.shape[1:]
        listed = _listed(Path(source), _classes_of(self.classifier), self.classifier.class_names)
        self.listed = self._with_known_labels(listed)
        self._order = self._shuffled()
        self._taken = 0
        self.batch_size = batch_size or self._usual_batch_size()

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self._order)

    @property
    def has_labels(self) -> bool:
        """Whether the class of each picture is known."""
        return self.listed.labels is not None

    @property
    def available(self) -> int:
        """How many batches can still be drawn, if no picture has to be skipped."""
        return (self.count - self._taken) // self.batch_size

    def draw(self, n_batches: int) -> list[Batch]:
        """The next batches: the net's input (N, K, H, W), and if there are labels, ``LABELS`` (N,), float32.

        No picture comes twice. For one that cannot be read the next one is taken; if that leaves too few, there are
        fewer batches. A warning names the first of them. Raises DataError if more than ``available`` are wanted.
        """
        if n_batches > self.available:
            left = self.count - self._taken
            raise DataError(
                f"{self.source}: {counted(n_batches, 'batch')} of {counted(self.batch_size, 'picture')} wanted, "
                f"but there {'is' if left == 1 else 'are'} {counted(left, 'picture')} left of {self.count:,}; "
                f"give more pictures{', or take fewer or smaller batches' if left else ''}"
            )
        progress = Progress(n_batches * self.batch_size, "pictures prepared")
        batches, skipped = list[Batch](), list[str]()
        while len(batches) < n_batches and (batch := self._batch(skipped)) is not None:
            batches.append(batch)
            progress.say_some(self.batch_size)
        if skipped:
            self._say_what_is_skipped(skipped, len(batches), n_batches)
        return batches

    def _say_what_is_skipped(self, skipped: Sequence[str], found: int, wanted: int) -> None:
        more = f"; and {len(skipped) - NAMED:,} more" if len(skipped) > NAMED else ""
        left = "" if found == wanted else f"; that leaves {counted(found, 'batch')} of the {wanted:,} wanted"
        logger.warning(
            "%s skipped: %s%s%s", counted(len(skipped), "picture"), "; ".join(skipped[:NAMED]), more, left
        )

    @property
    def _blob(self) -> Blob:
        return self.classifier.net.blobs[self.classifier.input]

    def _batch(self, skipped: list[str]) -> Batch | None:
        """The next batch, or None if too few pictures are left; why some were skipped is added to ``skipped``."""
        stored = np.empty((*self._shape, self.batch_size), np.float32)  # the batch last, as blobs have it
        indices = np.zeros(self.batch_size, np.int64)
        free = list(range(self.batch_size))
        while free:
            taken = self._order[self._taken : self._taken + len(free)]
            if len(taken) < len(free):
                return None
            self._taken += len(taken)
            indices[free] = taken
            problems = self._prepare(dict(zip(free, map(int, taken), strict=True)), stored)
            skipped += problems.values()
            free = list(problems)
        put = self.classifier.net.setting.device.put
        images: Array = put(stored).transpose(3, 0, 1, 2)
        batch: Batch = {self.classifier.input: images}
        if self.listed.labels is not None:
            batch[LABELS] = put(self.listed.labels[indices].astype(np.float32))
        return batch

    def _prepare(self, indices: Mapping[int, int], stored: np.ndarray) -> dict[int, str]:
        """Write pictures, by their places, into ``stored`` (K, H, W, N); return why some cannot be read."""
        problems: dict[int, str] = {}

        def prepare(place: int, worker: int) -> None:
            file, line = self.listed.file(indices[place]), self.listed.place(indices[place])
            try:
                image = load_image(file, self._color)
            except DataError as error:
                problem = str(error).removeprefix(f"{file}: ").removesuffix("; check the path")
                problems[place] = f"{named(file)}: {problem}{f' (named at {line})' if line else ''}"
            else:
                stored[..., place] = self.classifier.prepare([image])[0]

        workers.share_products(prepare, list(indices), workers.worker_count)
        return dict(sorted(problems.items()))

    # -- which pictures ------------------------------------------------------------------------------------

    def _with_known_labels(self, listed: ImageList) -> ImageList:
        """The list without its labels if they are not numbers of the net's classes; a line of the log says so."""
        labels, classes = listed.labels, _classes_of(self.classifier)
        if labels is None:
            return listed
        if labels.ndim > 1:
            problem = f"{listed.place(0)}: {labels.shape[1]} labels"
        else:
            beyond = (labels != np.round(labels)) | (labels < 0) | (labels >= classes)
            if not beyond.any():
                return listed
            first = int(beyond.argmax())
            problem = f"{listed.place(first) or self.source}: label {labels[first]:g}"
        what = f"classes are 0 … {classes - 1}" if classes else "outputs are no scores of classes"
        logger.warning("%s, but the net's %s: the labels are not used", problem, what)
        return replace(listed, labels=None)

    def _shuffled(self) -> np.ndarray:
        """The numbers of the pictures in random order, each file once."""
        files = {self.listed.names[index]: index for index in reversed(range(len(self.listed)))}
        again = len(self.listed) - len(files)
        if again:
            logger.info("%s: %s named before, and not taken again", self.source, counted(again, "picture"))
        return np.random.default_rng(SEED).permutation(sorted(files.values()))

    # -- how many at once ----------------------------------------------------------------------------------

    def _usual_batch_size(self) -> int:
        """The size of the net's input, or what suits the net and the number of pictures where it can change."""
        own = self._blob.shape[0]
        size = own if own > 1 else max(1, min(USUAL_BATCH, BATCH_BYTES // _bytes(self.classifier.net)))
        size = min(size, max(1, self.count // FEW_BATCHES))
        return size if size == own or _takes(self.classifier, size) else own


def _bytes(net: Net) -> int:
    """The bytes of a net's blobs."""
    owners = {id(blob.data_owner): blob for blob in net.blobs.values()}
    return sum(blob.count * blob.dtype.itemsize for blob in owners.values())


def _takes(classifier: Classifier, size: int) -> bool:
    """Whether a net gives ``size`` answers for so many images. The net is as before in the end."""
    net, blob = classifier.net, classifier.net.blobs[classifier.input]
    output, shape = net.blobs[classifier.output], blob.shape
    try:
        blob.reshape(size, *shape[1:])
        net.reshape()
        return output.shape[:1] == (size,)
    except MinicaffeError:
        return False
    finally:
        blob.reshape(*shape)
        net.reshape()


def _classes_of(classifier: Classifier) -> int:
    """How many classes a net has scores for; 0 if its output is no vector of scores."""
    shape = classifier.net.blobs[classifier.output].shape
    return shape[1] if len(shape) > 1 and all(size == 1 for size in shape[2:]) else 0


def _listed(source: Path, classes: int, names: Sequence[str]) -> ImageList:
    """The pictures of a folder or a list. Raises DataError."""
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        raise DataError(f"{source}: is one picture; give its folder, or a text file with a path in each line")
    if not source.is_dir():
        return find_images(source, advice="write paths as seen from the list's folder, or from here")
    folders = class_names(source)
    if not folders:
        return scan_all(source)
    problem = _why_no_classes(source, folders, classes, names if len(names) <= classes else ())
    if problem:
        logger.info("%s: all images in it are taken, without labels: %s", source, problem)
        return scan_all(source)
    labelled = ImageListSource(scan_folder(source, with_broken=True), cache_bytes=0)
    if names and len(names) <= classes:
        labelled.number_as(list(names))
    _say_which_labels(source, labelled.listed)
    return labelled.listed


def _say_which_labels(source: Path, listed: ImageList) -> None:
    """One line of the log with the folders that are taken for classes: any that are as many would do."""
    assert listed.labels is not None  # folders have labels
    used = [f"{label} = {listed.class_names[label]}" for label in np.unique(listed.labels).astype(int)]
    logger.info(
        "%s: labels from folders: %s; if these are not the net's classes, give a folder without folders, or a list",
        source,
        listing(used, NAMED),
    )


def _why_no_classes(source: Path, folders: list[str], classes: int, names: Sequence[str]) -> str:
    """Why the folders in a folder are not taken for the net's classes; "" if they are."""
    if has_images(source):
        return "there are some beside its folders"
    used = [name for name in folders if has_images(source / name)]
    if not used:
        return "its folders hold folders"
    others = [name for name in used if name not in names]
    if names and others:
        return f"the net has no classes called {listing(others, 3)}, but {listing(names, 3)}"
    if not names and len(folders) != classes:
        has = f"{counted(classes, 'class')} without names" if classes else "no scores of classes"
        return f"it has {counted(len(folders), 'folder')}, and the net {has}"
    return ""
