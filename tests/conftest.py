import os

# Before numpy is loaded: the products of the tests are small, and threads that share busy cores slow them down.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's; some tests fork, which other threads do not survive

import shutil
import socket
from pathlib import Path

import pytest
import tiny

from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.train import train
from crscli.workspace import Workspace

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the repository; tests that use it are marked realdata."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A socket to anywhere but this machine is a mistake."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test opened a socket to {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    """The user's own settings do not reach the tests."""
    for name in list(os.environ):
        if name.startswith("CRS_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # several test processes at once set it, and tables would be folded


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory) -> Path:
    """Files of the tiny world in the plain schema; not to be changed."""
    return tiny.write_tiny(tmp_path_factory.mktemp("tiny") / "source")


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory, tiny_source) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "workspace"
    workspace = Workspace(root)
    fetch_dataset(workspace, dataset="jsonl", source=tiny_source, name="tiny")
    train(workspace, dataset="tiny", model="cooccurrence")
    evaluate(workspace, dataset="tiny", models=["cooccurrence"], draws=20)
    return root


@pytest.fixture
def tiny_workspace(tmp_path, _trained_once) -> Path:
    """A workspace with the tiny dataset, a run of cooccurrence and its report; the test's own copy."""
    return shutil.copytree(_trained_once, tmp_path / "workspace")


@pytest.fixture(scope="session")
def _neural_once(tmp_path_factory, _trained_once) -> Path:
    root = shutil.copytree(_trained_once, tmp_path_factory.mktemp("neural") / "workspace")
    train(Workspace(root), dataset="tiny", model="pecrs-tiny", sets=tiny.small(), device="cpu")
    return root


@pytest.fixture
def neural_workspace(tmp_path, _neural_once) -> Path:
    """The same with a run of pecrs-tiny; the test's own copy."""
    return shutil.copytree(_neural_once, tmp_path / "workspace")
