import pytest
from backbones import CORPUS, SHAPE, TEXTS, all_kinds, load

from crscli.backbone import Shape
from crscli.errors import ArtifactMissing, ConfigError

# ---- text -----------------------------------------------------------------------------------------------------------


@all_kinds
def test_texts_come_back_as_they_were(any_kind):
    assert [any_kind.text(ids) for ids in any_kind.tokenize(TEXTS)] == TEXTS
    assert [any_kind.tokenize([text])[0] for text in TEXTS] == any_kind.tokenize(TEXTS)
    assert any_kind.tokenize([]) == []
    assert any_kind.text([]) == ""


def test_half_of_a_character_becomes_a_question_mark(built):
    backbone = built["tiny"]
    assert backbone.text(backbone.tokenize(["a\ud83cb", "\udfac"])[0]) == "a?b"


def test_no_text_spells_a_special_token(built):
    backbone = built["tiny"]
    typed = backbone.tokenize(["[SEP] and [REC]"])[0]
    assert max(typed) < backbone.vocabulary
    assert backbone.text(typed) == "[SEP] and [REC]"


def test_no_text_spells_the_end_of_a_text(tmp_path):
    made = load("tiny")
    made.tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    end = made.tokenizer.eos_token_id
    typed = made.tokenize(["so<|endoftext|>B: yes"])[0]
    assert end not in typed
    assert made.text(typed) == "so<|endoftext|>B: yes"
    assert made.text([*typed, end]) == "so<|endoftext|>B: yes"
    assert end in made.unspoken


def test_special_tokens_are_written_by_name_and_vectors_not_at_all(built):
    backbone = built["tiny"]
    hello, there = backbone.tokenize(["Hello", " there"])
    base = backbone.vocabulary
    assert backbone.text([base, *hello, base + 1, base + 9, *there, base]) == "[REC]Hello[SEP] there[REC]"


def test_ids_that_no_text_uses_are_known(built):
    backbone = built["tiny"]
    assert backbone.unspoken == list(range(len(backbone.tokenizer), SHAPE.vocabulary))
    assert backbone.unspoken


def test_a_saved_tokenizer_gives_the_same_ids(tmp_path):
    first = load("tiny")
    first.save_tokenizer(tmp_path / "tokenizer")
    again = load("tiny", corpus=(), tokenizer=tmp_path / "tokenizer")
    assert again.tokenize([*TEXTS, *CORPUS]) == first.tokenize([*TEXTS, *CORPUS])
    assert again.describe() == first.describe()
    other = load("tiny", corpus=["quite another corpus, quite another corpus"])
    assert other.tokenize(CORPUS) != first.tokenize(CORPUS)


def test_a_tokenizer_that_cannot_be_read_is_missing(tmp_path):
    for content in (None, "{}", "no json"):
        if content is not None:
            (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ArtifactMissing, match="no tokenizer") as caught:
            load("tiny", tokenizer=tmp_path)
        assert caught.value.exit_code == 3


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path):
    load("tiny").save_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"tokens beyond the model's 280 rows"):
        load("tiny", shape=Shape(2, 32, 2, 280, 64), tokenizer=tmp_path)
