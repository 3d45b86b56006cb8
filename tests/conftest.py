"""What the tests share: nets from YAML text, and the folder of real data where there is one."""

from pathlib import Path

import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net

SHARED_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.delenv("MINICAFFE_DEVICE", raising=False)
    mc.set_device("cpu")


@pytest.fixture
def shared_data():
    """The folder of full data sets that lies beside some checkouts."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the full data sets are not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def make_net():
    """A net from YAML text."""

    def make(text, **options):
        return mc.Net(parse_net(text), **options)

    return make
