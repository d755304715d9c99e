import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_world import CHAT, refused, service, user

PATHS = (CHAT, "/v1/recommendations", "/v1/opinions")
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nothing", b"\xff\xfe", b"[]", b"null", b"3", b'"text"', b"[" * 30_000, b"NaN", b'{"a":' * 10_000,
     b'{"n": ' + b"9" * 5_000 + b"}"],
    ids=lambda body: body[:12],
)  # fmt: skip
def test_no_json_object_is_400(client, path, body):
    refused(client.post(path, content=body, headers=JSON), 400, "invalid_json")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_is_no_request(client, kind):
    body = json.dumps({"messages": [user("Hi")]})
    refused(client.post(CHAT, content=body, headers={"Content-Type": kind}), 415, "not_json")


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": []}, {"messages": None}, {"messages": "Hi"}, {"messages": [{}]}, {"messages": [None]},
     {"messages": [{"role": "king", "content": "Hi"}]}, {"messages": [{"role": "user", "content": 3}]},
     {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
     {"messages": [user("Hi")], "n": 2}, {"messages": [user("Hi")], "n": 1e400},
     {"messages": [user("Hi")], "stream": "perhaps"}, {"messages": [user("Hi")], "user": "\ud800"},
     {"messages": [user("Hi")], "session_id": "x" * 129}, {"messages": [user("Hi")], "session_id": 3},
     {"messages": [user("Hi")], "model": "x" * 600}],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_422(client, body):
    refused(client.post(CHAT, content=json.dumps(body), headers=JSON), 422)


@pytest.mark.parametrize("limit", [0, -1, 51, 1.5, "many", None])
def test_a_number_of_items_is_one(client, limit):
    refused(client.post("/v1/recommendations", json={"messages": [user("Hi")], "limit": limit}), 422)


@pytest.mark.parametrize(
    "text",
    ["", " \n\t ", "\ud800 half", "\0\0", "\u202e<b>", "a" * 2000, "?!" * 1000, "(" * 2000, "film " * 400,
     "\U0001f600" * 1000, "under 99999999999999999999999 minutes",
     "from 00000099999999 to 9999999999", "the " * 500, "\\\"'`$%;--"],
)  # fmt: skip
def test_whatever_is_said_is_answered(client, text):
    body = json.dumps({"messages": [user(text)], "user": "somebody", "temperature": 2, "tools": []})
    told = client.post(CHAT, content=body, headers=JSON)
    assert told.status_code == 200
    session_id = told.json()["crs"]["session_id"]
    body = json.dumps({"messages": [user("Hi"), {"role": "assistant", "content": text}, user(text)]})
    assert client.post(CHAT, content=body, headers=JSON).status_code == 200
    assert client.get(f"/v1/sessions/{session_id}").status_code == 200


ROLES = ("user", "assistant", "system", "developer", "tool", "king")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=6,
)  # fmt: skip
WORDS = st.lists(
    st.sampled_from(["Laughs", "comedy", "not", "seen", "why", "more", "like", "Ann Lee", "1984", "the first", "?"])
).map(" ".join)  # fmt: skip
CONTENT = WORDS | ANYTHING | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}))
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": CONTENT}), max_size=6)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "messages": MESSAGES | ANYTHING, "stream": st.booleans() | ANYTHING, "session_id": st.just("known") | ANYTHING,
        "item_id": st.sampled_from(["1", "6", "none"]) | ANYTHING,
        "opinion": st.sampled_from(["liked", "seen"]) | ANYTHING,
        "limit": st.integers(-2, 60) | ANYTHING, "n": ANYTHING, "stream_options": ANYTHING, "user": ANYTHING,
    },
)  # fmt: skip


def fuzzed(folder, rounds):
    with service(folder) as client:
        known = client.post(CHAT, json={"messages": [user("a comedy")]}).json()["crs"]["session_id"]

        @settings(max_examples=rounds, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(path=st.sampled_from(PATHS), body=BODY | ANYTHING)
        def ask(path, body):
            if isinstance(body, dict) and body.get("session_id") == "known":
                body["session_id"] = known
            answer = client.post(path, content=json.dumps(body), headers=JSON)
            assert answer.status_code in (200, 400, 404, 413, 422), answer.text
            if answer.status_code != 200:
                refused(answer, answer.status_code)

        ask()


def test_nothing_that_is_sent_is_a_failure_of_the_service(tmp_path):
    fuzzed(tmp_path, 150)


@pytest.mark.slow
def test_nothing_of_much_that_is_sent_is_a_failure_of_the_service(tmp_path):
    fuzzed(tmp_path, 10_000)
