import os

from crscli.steps.doctor import doctor
from crscli.workspace import Workspace


def test_the_machine_is_described_and_nothing_is_made(tmp_path):
    facts = doctor(Workspace(tmp_path / "a" / "b"))
    assert facts["versions"].keys() >= {"crs", "python", "numpy", "scipy"}
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 1e8
    assert facts["devices"][0] == "cpu"
    assert facts["disk_free_bytes"] > 0
    assert facts["problems"] == [] or "MB free" in facts["problems"][0]
    assert not (tmp_path / "a").exists()


def test_only_settings_of_crs_are_shown_and_secrets_hidden(tmp_path, monkeypatch):
    for name, value in {"CRS_RIDGE": "3", "CRS_API_KEY": "hush", "OTHER_TOKEN": "hush", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    facts = doctor(Workspace(tmp_path))
    assert facts["settings"]["CRS_RIDGE"] == "3"
    assert facts["settings"]["CRS_API_KEY"] == "(hidden)"
    assert facts["settings"]["NO_COLOR"] == "1"
    assert "hush" not in str(facts)
    assert facts["threads"]["OPENBLAS_NUM_THREADS"] == "1"


def test_a_file_in_the_place_of_the_workspace_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor(Workspace(tmp_path / "file"))["problems"][0].endswith("is no folder")
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_a_problem(tmp_path, monkeypatch):
    full = type("Usage", (), {"free": 3_000_000})
    monkeypatch.setattr("crscli.steps.doctor.shutil.disk_usage", lambda path: full)
    assert doctor(Workspace(tmp_path))["problems"] == [f"only 3 MB free at {tmp_path}"]
