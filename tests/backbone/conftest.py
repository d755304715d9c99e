import shutil
from pathlib import Path

import pytest
from backbones import DECODERS, ENCODERS, folder_of, load

from crscli.backbone import Adapter


@pytest.fixture(scope="session")
def built():
    """One of each kind, untrained; not to be changed."""
    return {name: load(name) for name in (*DECODERS, *ENCODERS)}


@pytest.fixture
def decoder(built, request):
    return built[request.param]


@pytest.fixture
def any_kind(built, request):
    return built[request.param]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    plain = load("tiny", adapter=Adapter("none"))
    return Path(folder_of(plain.lm, tmp_path_factory.mktemp("saved") / "gpt2", plain))


@pytest.fixture
def copied(tmp_path, folder):
    return shutil.copytree(folder, tmp_path / "model")
