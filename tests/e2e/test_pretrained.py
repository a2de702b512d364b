"""Word vectors and unlabelled sequences by the command line and from a notebook, to the model that answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import gatewise
import training
from gatewise.cli import main
from gatewise.store import Store

SMALL = {
    "hidden_size": 8,
    "dense_sizes": [8],
    "learning_rate": 0.02,
    "epochs": 8,
    "batch_size": 16,
    "recurrent_dropout": 0.1,
}
FRUIT, ROADS = ["apple", "pear", "juice", "sweet"], ["car", "wheel", "fast", "engine"]
NEVER_TRAINED = {"plum": FRUIT, "lorry": ROADS}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(folder))
        yield folder


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def flags_of(settings: dict[str, Any]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def filler(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(["the", "is", "here", "a", "of"], size=3))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train texts, vectors in which words of a kind lie together, and unlabelled texts."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    kinds = ["fruit", "road"] * 100
    lines = [
        f"{filler(rng)} {rng.choice(FRUIT if kind == 'fruit' else ROADS)} {filler(rng)},{kind}\n" for kind in kinds
    ]
    (folder / "train.csv").write_text("text,label\n" + "".join(lines))
    points = {word: [1.0, 0.0, 0.2] for word in FRUIT} | {word: [-1.0, 0.0, 0.2] for word in ROADS}
    points |= {word: points[kind[0]] for word, kind in NEVER_TRAINED.items()} | {"the": [0.0, 1.0, -1.0]}
    (folder / "vectors.txt").write_text(
        "".join(
            f"{word} {' '.join(f'{x + 0.05 * rng.normal():.4f}' for x in point)}\n" for word, point in points.items()
        )
    )
    more = [f"{filler(rng)} {rng.choice(FRUIT + ROADS)} there {i}\n" for i in range(60)]
    (folder / "more.txt").write_text("".join(more))
    return folder


def test_words_that_training_never_saw_are_known_by_their_vectors(texts: Path) -> None:
    settings = flags_of(
        {**SMALL, "ngram_buckets": 0, "pair_buckets": 0, "embedding_dim": 3, "embedding_mode": "frozen"}
    )
    answer = cli(
        *("train", texts / "train.csv", "--name", "vectors", "--embeddings", texts / "vectors.txt"),
        *("--cells", "gru", "--run-dir", texts / "runs", "--accelerator", "cpu", *settings),
    )
    assert answer.exit_code == 0, answer.output
    assert "embedding_mode = frozen  (as you said)" in answer.output
    assert "11 vectors of 3 numbers, frozen. 9 of the 13 words of train have one: " in answer.output
    assert "2 words that train lacks are known by them alone." in answer.output
    found = gatewise.load("vectors").predict([f"the {word} is here" for word in NEVER_TRAINED])
    assert [prediction.label for prediction in found] == ["fruit", "road"]
    data = Store().get("vectors").manifest["data"]
    assert data["embeddings"]["source"] == "vectors.txt"
    assert data["embeddings"]["words_added"] == 2
    assert str(texts) not in json.dumps(data)


def test_pretraining_is_shown_and_kept_in_the_manifest(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("pretrain_epochs = 2\nunfreeze_epochs = 1\nembedding_mode = 'gated'\n")
    common = ["train", texts / "train.csv", "--name", "both", "--config", tmp_path / "s.toml", "--run-dir", tmp_path]
    files = ["--embeddings", texts / "vectors.txt", "--unlabelled", texts / "more.txt"]
    answer = cli(*common, *files, "--accelerator", "cpu", *flags_of({**SMALL, "embedding_dim": 6, "epochs": 12}))
    assert answer.exit_code == 0, answer.output
    assert "60 sequences without labels, " in answer.output
    for cell in ("lstm", "gru"):
        told = [line for line in answer.output.splitlines() if line.startswith(f"  {cell} pretraining epoch ")]
        assert [line.split()[3] for line in told] == ["1/2", "2/2"]
        assert all("held_out_perplexity" in line for line in told)
    version = Store().get("both")
    assert version.manifest["data"]["unlabelled"]["source"] == "more.txt"
    assert version.manifest["training"]["config"]["pretrain_epochs"] == 2
    assert [epoch["epoch"] for epoch in version.manifest["training"]["pretraining"]] == [1, 2]
    assert version.metrics["test"]["accuracy"] > 0.9


def test_a_notebook_pretrains_on_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)

    def item() -> list[Any]:
        wave = np.sin(np.arange(10) * 0.7 + rng.random() * 6)
        return np.stack([wave, wave + 1], axis=1).round(3).tolist()

    rows = [{"series": item(), "label": "xy"[i % 2]} for i in range(60)]
    for row in rows:
        if row["label"] == "y":
            row["series"] = [[-a, b] for a, b in row["series"]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "more.jsonl").write_text("".join(json.dumps({"series": item()}) + "\n" for _ in range(50)))
    result = training.fit(
        tmp_path / "train.jsonl",
        unlabelled=tmp_path / "more.jsonl",
        name="waves",
        run_dir=tmp_path / "runs",
        **{**SMALL, "pretrain_epochs": 2, "epochs": 2, "cells": "gru"},
    )
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  gru pretraining epoch 2/2  train_loss") for line in said)
    assert gatewise.load(str(result.artifact)).predict([item()])[0].label in ("x", "y")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--embeddings", "{folder}/none.txt"], 3, "{folder}/none.txt: there is no such file"),
        (["--embeddings", "{folder}/train.csv"], 3, "{folder}/train.csv, row 1: is no file of word vectors"),
        (["--unlabelled", "{folder}/none.csv"], 3, "{folder}/none.csv: there is no such file"),
        (["--set", "embedding_mode=gated"], 2, "embedding_mode: it says what becomes of --embeddings FILE"),
        (["--set", "pretrain_epochs=2"], 2, "pretrain_epochs: it says what becomes of --unlabelled FILE"),
        (
            ["--set", "embedding_mode=soft"],
            2,
            "--set: embedding_mode: Input should be 'frozen', 'finetuned' or 'gated'",
        ),
    ],
)
def test_what_is_wrong_is_one_line(texts: Path, tmp_path: Path, flags: list[str], code: int, message: str) -> None:
    given = [flag.replace("{folder}", str(texts)) for flag in flags]
    answer = cli("train", texts / "train.csv", "--run-dir", tmp_path, *given)
    assert answer.exit_code == code, answer.output
    assert answer.stderr.startswith(f"error: {message.replace('{folder}', str(texts))}")
    assert len(answer.stderr.splitlines()) == 1
