"""Makes artifacts: reads labelled files, trains an LSTM and a GRU, chooses one by what it measures, registers it.

result = training.fit("questions.csv", sequence="text", label="label")
result.artifact, result.metrics, result.choice
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.plan import JobResult

__all__ = ["fit"]

_READING = ("sequence", "label", "kind", "task", "group_by", "order_by", "channels", "encoding")


def fit(
    data: str | Path,
    *,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    embeddings: str | Path | None = None,
    unlabelled: str | Path | None = None,
    name: str | None = None,
    run_dir: str | Path = "runs",
    resume: bool = False,
    max_seconds: float | None = None,
    mlflow: str | None = None,
    **settings: Any,
) -> JobResult:
    """Train on a labelled file, as `gatewise train` does.

    Args:
        data: a file, or a folder that holds train, and maybe valid and test, files.
        embeddings: a file of word vectors: GloVe or fastText text, plain or .gz, or safetensors.
        unlabelled: a file of sequences like those of `data`, to pretrain on.
        mlflow: the address of an MLflow server that is told of the job.
        settings: how to read the file (`sequence`, `label`, `kind`, `task`, `group_by`, `order_by`, `channels`,
            `encoding`) and any field of `training.config.TrainingConfig`.
    Raises:
        InvalidData: the file cannot be read as labelled sequences.
        InvalidConfig: a setting is unknown or does not fit.
    """
    from training.config import check_settings
    from training.job import run
    from training.plan import JobOptions
    from training.readers import ReadOptions

    reading = {key: settings.pop(key) for key in _READING if key in settings}
    options = JobOptions(
        data=str(data),
        valid=None if valid is None else str(valid),
        test=None if test is None else str(test),
        embeddings=None if embeddings is None else str(embeddings),
        unlabelled=None if unlabelled is None else str(unlabelled),
        name=name,
        reading=ReadOptions(**reading),
        settings=check_settings(settings, "fit"),
        run_dir=Path(run_dir),
        resume=resume,
        max_seconds=max_seconds,
        mlflow=mlflow,
    )
    return run(options)
