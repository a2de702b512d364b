"""A vocabulary with vectors from a file: which words it gains, and what each begins with.

V vocabulary, E embedding, N words of the file that were taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InvalidData
from gatewise.text import UNKNOWN_ID, TextEncoder
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.dataset import Dataset
from training.vectors import Vectors, read_vectors
from training.word_tables import PretrainedRows

# Standard deviation of the numbers of all vectors together, whatever it is in the file. Of 0.1, 0.3 and 1 this gave the
# lowest validation loss on two sets of texts, beside parts that are drawn much smaller and grow.
_SCALE = 1.0
# A file that knows fewer of the tokens is likely to be of another language, or to write words in another way.
_FEW = 0.5


@dataclass(frozen=True)
class WordVectors:
    """Vectors for the words of a job.

    Attributes:
        total, dim: words of the file, and numbers of each.
        of_train: words of train with a vector, and all of them.
        added: words that the vocabulary has of the file alone.
    """

    source: str
    total: int
    dim: int
    of_train: tuple[int, int]
    added: int
    pretrained: PretrainedRows

    def coverage(self, rows: EncodedDataset) -> float:
        """Share of the tokens of encoded rows that have a vector."""
        forms = np.concatenate(rows.inputs)
        # A form beyond the vocabulary is a spelling that it lacks.
        ids = np.where(forms < len(self.pretrained.known), forms, UNKNOWN_ID)
        return float(self.pretrained.known[ids].mean())

    def card(self, train: EncodedDataset, valid: EncodedDataset) -> dict[str, Any]:
        """The manifest's account of them."""
        return {
            "source": Path(self.source).name,
            "words": self.total,
            "dim": self.dim,
            "mode": self.pretrained.mode,
            "words_of_train": list(self.of_train),
            "words_added": self.added,
            "coverage": {"train": round(self.coverage(train), 4), "valid": round(self.coverage(valid), 4)},
        }

    def notes(self, train: EncodedDataset, valid: EncodedDataset) -> list[str]:
        """Sentences for the user: what the file covers."""
        found, asked = self.of_train
        of_train, of_valid = self.coverage(train), self.coverage(valid)
        notes = [
            f"{self.source}: {self.total:,} vectors of {self.dim} numbers, {self.pretrained.mode}. {found:,} of the "
            f"{asked:,} words of train have one: {of_train:.1%} of its tokens, and {of_valid:.1%} of valid's. "
            f"{self.added:,} words that train lacks are known by them alone."
        ]
        if of_train < _FEW:
            notes.append("That is little: is the file of the same language, and are its words cased as these are?")
        return notes


def add_vectors(
    encoder: TextEncoder, train: Dataset, path: str, config: TrainingConfig
) -> tuple[TextEncoder, WordVectors]:
    """Read the vectors of the words of train, and give the vocabulary the words that the file knows beyond it.

    Those are the words of train that are too rare for the vocabulary, and the file's `embedding_words` most frequent
    others: what is served has words that training never saw. (Of 100 questions, GloVe knows 63% of the tokens of other
    questions by the words of train alone, and 95% with its 20,000 most frequent words; of 4,400 questions 91% and 97%.)
    Words of valid are not looked up for being there: that would measure a vocabulary which no other text finds.

    Raises:
        InvalidData: the file is wrong, or knows no word of train.
    """
    words = encoder.words()
    rare = dict.fromkeys(chain.from_iterable(_unknown(encoder, train)))
    wanted = [*words[UNKNOWN_ID + 1 :], *rare]
    found = read_vectors(path, wanted, frequent=config.embedding_words, spelled=encoder.token_of)
    if not found.wanted:
        problem = f"holds none of the {len(wanted)} words of the training texts, such as {', '.join(wanted[:5])}"
        raise InvalidData(problem, path=path, mend="Give vectors of the texts' language")
    added = [word for word in (*rare, *found.frequent) if word in found.wanted or word in found.frequent]
    vocabulary = [*words, *added]
    rows, known = _rows(vocabulary, found, config.embedding_dim)
    vectors = WordVectors(
        source=path,
        total=found.total,
        dim=found.dim,
        of_train=(len(found.wanted), len(wanted)),
        added=len(found.frequent),
        pretrained=PretrainedRows(rows, known, config.embedding_mode),
    )
    return encoder.with_words(added), vectors


def _unknown(encoder: TextEncoder, data: Dataset) -> list[list[str]]:
    return [[spelling for _, spelling in text.unknown] for text in encoder.encode_many(data.items)]


def _rows(vocabulary: list[str], found: Vectors, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of the vocabulary, (V, E), and where there are any, (V,)."""
    vectors = found.wanted | found.frequent
    known = np.array([word in vectors for word in vocabulary])
    rows = np.zeros((len(vocabulary), width), dtype=np.float32)
    rows[known] = fit_width(np.stack([vectors[word] for word in vocabulary if word in vectors]), width)
    return rows, known


def fit_width(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Centre vectors (N, dim), bring them to the common scale and give them another width.

    Narrower, they are their principal components; wider, the rest is zero, for training to fill.
    """
    exact = vectors.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    dim = centred.shape[1]
    if width < dim:
        _, directions = np.linalg.eigh(centred.T @ centred)
        centred = centred @ directions[:, : -width - 1 : -1]
    scaled = centred * (_SCALE / max(float(centred.std()), 1e-12))
    return np.pad(scaled, ((0, 0), (0, max(0, width - dim)))).astype(np.float32)
