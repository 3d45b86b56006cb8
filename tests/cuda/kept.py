"""Where compiled kernels are kept, for this user: the tests compile one again only where its source has changed."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from pathlib import Path


def place_of(*made_of: str, ending: str) -> Path:
    """The file for what is made of a compiler, its options and a source. It may not be there yet."""
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]
    folder = Path(tempfile.gettempdir()) / f"minicaffe-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{key}{ending}"


def beside(place: Path, ending: str) -> Path:
    """A file of this thread alone, to be renamed to ``place`` once it is whole."""
    return place.with_suffix(f".{os.getpid()}-{threading.get_ident()}{ending}")
