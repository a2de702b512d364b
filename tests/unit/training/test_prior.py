"""What word vectors and unlabelled sequences change in the recipe, and which settings need them."""

from __future__ import annotations

from typing import Any

import pytest

from gatewise.errors import InvalidConfig
from training.config import TrainingConfig
from training.prior import check_prior, with_pretraining, with_vectors
from training.recipe import Choice


@pytest.mark.parametrize(
    ("kind", "settings", "given", "told"),
    [
        ("series", {}, (True, False), "--embeddings: these are vectors of words, and the sequences are series"),
        ("text", {"level": "characters"}, (True, False), "--embeddings: .* and level is characters"),
        ("text", {"embedding_mode": "gated"}, (False, True), "embedding_mode: .*--embeddings FILE, and none is given"),
        ("text", {"pretrain_epochs": 3}, (True, False), "pretrain_epochs: .*--unlabelled FILE, and none is given"),
        ("series", {"unfreeze_epochs": 0}, (False, False), "unfreeze_epochs: .*none is given"),
    ],
)
def test_settings_of_files_that_were_not_given_are_refused(
    kind: Any, settings: dict[str, Any], given: tuple[bool, bool], told: str
) -> None:
    with pytest.raises(InvalidConfig, match=f"^{told}"):
        check_prior(kind, settings, has_vectors=given[0], has_unlabelled=given[1])


def test_settings_of_files_that_were_given_pass() -> None:
    check_prior("text", {"embedding_mode": "frozen", "level": "words"}, has_vectors=True, has_unlabelled=False)
    check_prior("series", {"pretrain_epochs": 3}, has_vectors=False, has_unlabelled=True)


def test_vectors_make_the_tokens_words_and_the_embedding_as_wide_as_they_are() -> None:
    choices = [Choice("level", "subwords", "x"), Choice("vocab_size", 8000, "x"), Choice("epochs", 3, "x")]
    config = TrainingConfig(level="subwords", vocab_size=8000, epochs=3, embedding_dim=128)
    resolved, told = with_vectors(config, choices, {}, 300)
    assert (resolved.level, resolved.vocab_size, resolved.embedding_dim, resolved.epochs) == ("words", 30_000, 300, 3)
    assert [choice.name for choice in told].count("level") == 1
    assert all(getattr(resolved, choice.name) == choice.value for choice in told)


def test_tagged_tokens_stay_tokens_and_what_the_user_says_stays() -> None:
    config = TrainingConfig(level="tokens", embedding_dim=16, embedding_mode="frozen")
    resolved, told = with_vectors(config, [], {"embedding_dim": 16, "embedding_mode": "frozen"}, 300)
    assert (resolved.level, resolved.embedding_dim, resolved.embedding_mode) == ("tokens", 16, "frozen")
    assert not {"embedding_dim", "embedding_mode", "level"} & {choice.name for choice in told}


def test_few_rows_are_passed_over_more_often() -> None:
    passes = [
        with_pretraining(TrainingConfig(batch_size=64), [], {}, rows)[0].pretrain_epochs
        for rows in (10**3, 10**4, 10**6)
    ]
    assert passes == sorted(passes, reverse=True)
    assert passes[-1] >= 1
    resolved, _ = with_pretraining(TrainingConfig(pretrain_epochs=7), [], {"pretrain_epochs": 7}, 100)
    assert resolved.pretrain_epochs == 7


def test_pretrained_parts_wait_a_twentieth_of_the_epochs() -> None:
    waits = [with_pretraining(TrainingConfig(epochs=epochs), [], {}, 100)[0].unfreeze_epochs for epochs in (5, 20, 64)]
    assert waits == [0, 1, 3]
