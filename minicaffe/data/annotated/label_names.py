"""The names of labels for people, from a label map that a net names and may lack."""

from __future__ import annotations

import logging

from minicaffe.data.annotated.label_map import read_label_map
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.errors import MinicaffeError

logger = logging.getLogger("minicaffe")


def names_in_file(path: str, folder: str) -> dict[int, str]:
    """The name of each label in the label map of a spec in ``folder``; {} without one.

    Of a file that is missing, or is no label map, a warning is given: no number depends on it.
    """
    if not path:
        return {}
    try:
        return read_label_map(find_path(path, lookup_folders(folder), "label map")).names()
    except MinicaffeError as error:
        logger.warning("label_map_file %s: labels are shown as numbers", error)
        return {}
