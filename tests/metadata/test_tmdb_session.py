import os

import pytest

from crscli.errors import ConfigError, MachineError, WorkspaceLocked
from crscli.metadata.cache import DAY, Cache, Reply
from crscli.metadata.session import BASE, Credential, base_address, read_credential, retry_after

V3 = "0123456789abcdef0123456789abcdef"
V4 = f"{'a' * 20}.{'b' * 60}.{'c' * 43}"


# The credential.


def test_the_form_of_a_credential_tells_its_version():
    assert (Credential(V3).version, Credential(V4).version) == (3, 4)
    assert repr(Credential(V3)) == "<TMDB v3 credential>"
    assert Credential(V3).hidden(f"api_key={V3}&x") == "api_key=***&x"


@pytest.mark.parametrize("secret", ["", "short", f"{V3}\nX-Injected: yes", f"{V3} {V3}", "schlüssel-schlüssel"])
def test_what_is_no_credential_is_refused_without_being_shown(secret):
    with pytest.raises(ConfigError, match=rf"has {len(secret)} characters") as caught:
        Credential(secret)
    assert not secret or secret not in str(caught.value.hint) + caught.value.message
    assert caught.value.exit_code == 6


def test_the_key_file_goes_before_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text(V4 + "\n")
    file.chmod(0o600)
    assert read_credential(file, {"TMDB_API_KEY": V3}).version == 4
    assert read_credential(None, {"TMDB_API_KEY": f" {V3}\n"}).version == 3


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [(V3, 0o644, r"can be read by others \(mode 0644\)"), (V3, 0o660, "mode 0660"), ("", 0o600, "is empty")],
)
def test_a_key_file_that_others_may_read_or_is_empty_is_refused(content, mode, message, tmp_path):
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=message) as caught:
        read_credential(file, {"TMDB_API_KEY": V3})
    assert ("chmod 600" in caught.value.hint) == (mode != 0o600)


def test_no_credential_at_all(tmp_path):
    with pytest.raises(ConfigError, match="no TMDB credential") as caught:
        read_credential(None, {})
    assert "--key-file" in caught.value.hint
    assert "TMDB_API_KEY" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_credential(tmp_path / "none", {})
    with pytest.raises(ConfigError, match="is no file"):
        read_credential(tmp_path, {})


@pytest.mark.parametrize(
    "address", ["https://proxy.example/tmdb/3", "http://localhost:8080/3", "http://127.0.0.1:1/3", "http://[::1]:9"]
)
def test_an_own_address_is_https_or_on_this_machine(address):
    assert base_address({"CRS_TMDB_URL": address + "/"}) == address
    assert base_address({}) == BASE


@pytest.mark.parametrize(
    "address",
    ["http://api.themoviedb.org/3", "ftp://localhost/3", "https://", "http://localhost.example/3", "https://a:b@c/3",
     "https://a/3?x=1", "nonsense", "", "http://[::1", "https://a:99999/3"],
)  # fmt: skip
def test_another_address_is_refused(address):
    with pytest.raises(ConfigError, match="no https address"):
        base_address({"CRS_TMDB_URL": address})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("7", 7.0), (" 0 ", 0.0), ("soon", None), ("-3", None), ("1.5", None), ("9" * 30, None),
     ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("Thu, 01 Jan 1970 00:00:00 -0000", -100.0)],
)  # fmt: skip
def test_retry_after(text, seconds):
    assert retry_after(text, now=lambda: 100.0) == seconds


# The cache.


def test_replies_come_back_after_closing(tmp_path):
    path = tmp_path / "raw" / "replies.sqlite"
    with Cache(path) as cache:
        cache.put("/a?x=1", Reply(200, b'{"a": "\xc3\xa9"}'))
        cache.put("/b?", Reply(404, b"{}"))
    with Cache(path) as cache:
        assert cache.get("/a?x=1") == Reply(200, b'{"a": "\xc3\xa9"}')
        assert cache.get("/b?") == Reply(404, b"{}")
        assert cache.get("/c?") is None
        assert len(cache) == 2


def test_old_replies_are_as_if_they_were_not_there(tmp_path):
    now = [1000 * DAY]
    with Cache(tmp_path / "c", now=lambda: now[0]) as cache:
        cache.put("old", Reply(200, b"1"))
        now[0] += 160 * DAY
        cache.put("new", Reply(200, b"2"))
        assert cache.older_than(150) == 1
        assert cache.get("old") == Reply(200, b"1")
    with Cache(tmp_path / "c", max_age_days=150, now=lambda: now[0]) as cache:
        assert cache.get("old") is None
        assert cache.get("new") == Reply(200, b"2")
        cache.put("old", Reply(200, b"3"))
        assert cache.get("old") == Reply(200, b"3")
        assert cache.older_than(150) == 0


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at", b"SQLite format 3\0" * 9])
def test_a_damaged_cache_is_told_of(content, tmp_path):
    path = tmp_path / "tmdb.sqlite"
    path.write_bytes(content)
    with pytest.raises(MachineError, match="cannot be used") as caught:
        Cache(path)
    assert "delete it" in caught.value.hint


def test_a_cache_has_one_user_at_a_time(tmp_path):
    with Cache(tmp_path / "c") as cache:
        cache.put("a", Reply(200, b"1"))
        with pytest.raises(WorkspaceLocked, match="another process is fetching into"):
            Cache(tmp_path / "c")
    with Cache(tmp_path / "c") as cache:
        assert len(cache) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_cache_of_another_version_is_told_of(tmp_path):
    with Cache(tmp_path / "c") as cache:
        cache._base.execute("PRAGMA user_version = 99")
    with pytest.raises(MachineError, match="another version"):
        Cache(tmp_path / "c")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told_of(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError):
        Cache(tmp_path / "raw" / "c")
