"""ReFICR's losses against slow loops, and that chunks, parts and shared readings change nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from reficr_world import CATALOGUE, TRAIN, untrained
from torch.nn import functional as F

from crscli.models.reficr import mining, with_mined
from crscli.models.reficr.network import _padded, contrastive
from crscli.models.reficr.rows import Asked, answer_rows, conversation_rows, item_rows
from crscli.recommender import FitData
from crscli.training.order import epoch_batches


def sought(model):
    return item_rows(model.layout, TRAIN) + conversation_rows(model.layout, model.network.store, TRAIN)


def batch_of(network, rows, seed=0):
    drawn = network.draw(rows, np.random.default_rng(seed))
    return drawn, network.collate(rows, drawn, range(len(rows)))


def slow_item_loss(model, row, others, positives, negatives, wrong_titles):
    """-log of each positive's share, one passage at a time."""
    embed = lambda text: model.network.vectors([text])[0].double()  # noqa: E731
    query = embed(row.query)
    score = {
        n: float(query @ embed(model.network.items[n])) / model.config.temperature for n in others | set(positives)
    }
    kept = [n for n in negatives if n not in positives and n not in wrong_titles]
    rest = sum(math.exp(score[n]) for n in kept)
    return sum(-math.log(math.exp(score[p]) / (math.exp(score[p]) + rest)) for p in positives) / len(positives)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("negatives", [0, 3])
def test_the_contrastive_loss_is_that_of_a_slow_loop(in_batch, mask, negatives):
    model = untrained(in_batch=in_batch, mask_false_negatives=mask, negatives=negatives, random_negatives=2)
    network = model.network
    network.begin_stage(first=False)
    rows = [replace(r, mined=(0, 3, 5, 7, 11)) for r in item_rows(model.layout, TRAIN)[:6]]
    drawn, batch = batch_of(network, rows)
    with torch.no_grad():
        found = float(network.losses(batch)["items"])
    items, want = drawn.items.tolist(), 0.0
    for row, (positives, own) in zip(rows, drawn.chosen, strict=True):
        assert sorted(items[p] for p in positives) == sorted(row.targets)
        assert len(own) == negatives
        compared = {items[p] for p in own} | {items[p] for p in drawn.shared} | (set(items) if in_batch else set())
        titles = {CATALOGUE[n].title for n in (*row.targets, *row.spared)} if mask else set()
        wrong = {n for n in compared if CATALOGUE[n].title in titles}
        want += slow_item_loss(model, row, compared, list(row.targets), sorted(compared), wrong)
    assert found == pytest.approx(want, rel=1e-4)


def test_own_and_in_batch_negatives_are_really_switched_apart():
    rows = None
    negatives = {}
    for in_batch in (True, False):
        model = untrained(in_batch=in_batch, mask_false_negatives=False)
        model.network.begin_stage(first=False)
        rows = [replace(r, mined=(0, 3, 5, 7, 11)) for r in item_rows(model.layout, TRAIN)[:6]]
        negatives[in_batch] = batch_of(model.network, rows)[1].negative.sum(1).tolist()
    assert max(negatives[False]) <= 3 < min(negatives[True])


def test_conversations_of_the_same_dialogue_or_with_a_common_target_are_no_negatives():
    model = untrained()
    network, store = model.network, model.network.store
    rows = conversation_rows(model.layout, store, TRAIN)
    drawn, batch = batch_of(network, rows[:8])
    assert int(batch.negative.sum()) > 8
    for num, row in enumerate(rows[:8]):
        for at, place in enumerate(drawn.conversations):
            other = store[place]
            if batch.negative[num, at]:
                assert other.dialogue_id != row.dialogue_id
                assert set(other.targets).isdisjoint(row.targets)
            if batch.positive[num, at]:
                assert other.dialogue_id != row.dialogue_id
                assert set(other.targets) & set(row.targets)


def test_a_margin_leaves_out_what_is_nearer_than_the_positive():
    similar = torch.tensor([[0.5, 0.9, 0.55, 0.1]])
    positive, negative = torch.tensor([[True, False, False, False]]), torch.tensor([[False, True, True, True]])
    loss = contrastive(similar, positive, negative, temperature=0.1, margin=0.1)
    want = contrastive(similar[:, [0, 2, 3]], positive[:, [0, 2, 3]], negative[:, [0, 2, 3]], temperature=0.1)
    assert loss.tolist() == pytest.approx(want.tolist())


def test_chunks_change_neither_loss_nor_gradient():
    """GradCache: the gradient of one chunk at a time is that of the whole batch."""
    grads = {}
    for chunk in (0, 64):
        model = untrained(chunk_tokens=chunk)
        network = model.network.train()
        rows = sought(model)[:6]
        _, batch = batch_of(network, rows)
        torch.manual_seed(3)
        loss = network.losses(batch)["items"]
        loss.backward()
        grads[chunk] = float(loss.detach()), {n: p.grad for n, p in network.trained().items() if p.grad is not None}
    assert grads[0][0] == pytest.approx(grads[64][0], rel=1e-5)
    assert grads[0][1].keys() == grads[64][1].keys()
    assert len(grads[0][1]) > 10
    for name, grad in grads[0][1].items():
        assert torch.allclose(grad, grads[64][1][name], atol=1e-5 * max(1.0, float(grad.abs().max())), rtol=1e-4)


def test_a_chunk_is_read_again_with_the_same_dropout():
    model = untrained(chunk_tokens=64, dropout=0.3)
    network = model.network.train()
    texts = [r.query for r in sought(model)[:4]]
    ids, spans = _padded(texts)
    torch.manual_seed(1)
    network._in_chunks(ids, spans)[:, 0].sum().backward()
    one = network.backbone.lm.get_input_embeddings().weight.grad.clone()
    network.zero_grad()
    torch.manual_seed(1)
    parts, order = [], spans[:, 1].argsort()
    for at in order.tolist():  # one text a chunk, in the order of their lengths
        length = int(spans[at, 1])
        parts.append(network.embedded(ids[at : at + 1, :length], spans[at : at + 1]))
    torch.cat(parts)[:, 0].sum().backward()
    assert torch.allclose(one, network.backbone.lm.get_input_embeddings().weight.grad, atol=1e-6)


def test_parts_of_a_batch_add_up_to_it():
    model = untrained(in_batch=True)
    network = model.network
    rows = [*sought(model)[:5], *answer_rows(model.layout, FitData(TRAIN), network.store, None,
                                             np.random.default_rng(0))[:3]]  # fmt: skip
    network.begin_stage(first=False)
    drawn = network.draw(rows, np.random.default_rng(0))
    with torch.no_grad():
        whole = network.losses(network.collate(rows, drawn, range(8)))
        parts = [network.losses(network.collate(rows[a:b], drawn, range(a, b))) for a, b in ((0, 3), (3, 6), (6, 8))]
    for name, value in whole.items():
        assert float(value) == pytest.approx(sum(float(p[name]) for p in parts), rel=1e-4)


def test_questions_side_by_side_are_questions_one_by_one():
    model = untrained(layout="shared", reads_aloud=True)
    network = model.network
    network.begin_stage(first=False)
    mined = mining.mine(network, sought(model), model.config)
    rows = answer_rows(model.layout, FitData(TRAIN), network.store, mined, np.random.default_rng(0))
    row = max(rows, key=lambda r: len(r.branches))
    assert {b.kind for b in row.branches} == {"respond", "manage", "rank"}
    with torch.no_grad():
        together = network.losses(network.collate([row], network.draw([row], np.random.default_rng(0)), [0]))
        want = 0.0
        for branch in row.branches:
            ids = torch.tensor([[*row.stem, *branch.prompt, *branch.answer]])
            hidden, _ = network.backbone.encode(network.backbone.embed(ids))
            logits = network.backbone.logits(hidden[0, len(row.stem) + len(branch.prompt) - 1 : -1])
            want += float(F.cross_entropy(logits, torch.tensor(branch.answer), reduction="sum"))
    assert float(together["answers"]) == pytest.approx(want, rel=1e-4)


def test_every_row_is_visited_once_an_epoch_and_batches_are_of_one_kind():
    model = untrained()
    rows = [*sought(model), *answer_rows(model.layout, FitData(TRAIN), model.network.store, None,
                                         np.random.default_rng(0))]  # fmt: skip
    kinds = ["asked" if isinstance(r, Asked) else r.kind for r in rows]
    assert set(kinds) == {"asked", "item", "conversation"}
    batches = epoch_batches([model.network.length(r) for r in rows], 8, seed=0, epoch=0)
    assert sorted(n for b in batches for n in b) == list(range(len(rows)))
    mixed = [b for b in batches if len({kinds[n] for n in b}) > 1]
    assert len(mixed) <= 2


def test_mined_negatives_are_the_hardest_that_are_wrong():
    model = untrained(mined_depth=4)
    network, rows = model.network, sought(model)
    mined = mining.mine(network, rows, model.config)
    items = network.vectors(network.items)
    for row in (r for r in rows if r.kind == "item"):
        similar = (network.vectors([row.query]) @ items.T)[0]
        wrong = [n for n in similar.argsort(descending=True).tolist() if n not in (*row.targets, *row.spared)]
        assert list(mined.items[row.name]) == wrong[:4]
        candidates, _ = mined.candidates[row.name]
        assert set(candidates) & set(row.targets)
        order = list(mined.order[row.name])
        assert sorted(order) == sorted(candidates)
        assert order[0] in row.targets
    stored = network.vectors(network.conversations)
    for row in (r for r in rows if r.kind == "conversation"):
        mean = lambda targets: F.normalize(items[list(targets)].mean(0), dim=0)  # noqa: E731
        like = {
            place: float(network.vectors([row.query])[0] @ stored[place] - mean(row.targets) @ mean(c.targets))
            for place, c in enumerate(network.store)
            if c.dialogue_id != row.dialogue_id and set(c.targets).isdisjoint(row.targets)
        }
        hardest = sorted(like, key=lambda p: -like[p])[:4]
        assert list(mined.conversations[row.name]) == hardest
    learnt = with_mined(rows, mined)
    assert all(r.mined for r in learnt)


def test_an_interrupted_mining_goes_on_with_what_it_kept(tmp_path):
    model = untrained()
    rows = sought(model)
    first = mining.mine(model.network, rows, model.config, directory=tmp_path)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "queries-item-0.npy").unlink()
    again = mining.mine(model.network, rows, model.config, directory=tmp_path)
    assert first == again
    later = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {n for n in kept if kept[n] != later[n]} == {"queries-item-0.npy"}


def test_the_blocked_search_is_the_plain_one():
    rng = np.random.default_rng(0)
    queries, passages = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)
    nums, similar = mining.best(queries, passages, 7, block=16)
    plain = queries @ passages.T
    assert np.allclose(similar, np.sort(plain, axis=1)[:, ::-1][:, :7], atol=1e-6)
    assert np.allclose(np.take_along_axis(plain, nums, axis=1), similar)
