"""`gatewise drift`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

import gatewise
from gatewise.commands.reading import reading_options, stream_as_trained
from gatewise.commands.showing import check_json, print_table, reference_of, row_progress
from gatewise.errors import ArtifactMissing, InvalidConfig, InvalidSequence

if TYPE_CHECKING:
    from gatewise.drift import Drift, DriftReference
    from gatewise.predictor import Predictor


@click.command()
@click.argument("model")
@click.argument("data", required=False)
@click.option("--url", metavar="URL", help="Of a service that serves MODEL: its last sequences, instead of DATA.")
@reading_options
@click.option("--json", "json_file", metavar="F", help="Write the figures to this file too.")
def drift(model: str, data: str | None, url: str | None, json_file: str | None, **flags: Any) -> None:
    """Explain how far the sequences of the file DATA, or of a running service, are from those that MODEL was made on.

    The index of each measure is the population stability index (PSI): above 0.1, and above what chance gives, it has
    moved; above 0.25 much. That the sequences are others does not say that the answers are worse: labels do. Nothing is
    ever retrained by this.
    """
    from gatewise.drift_table import NO_STATISTICS, drift_table, fetch, worst

    check_json(json_file)
    if (data is None) == (url is None):
        raise InvalidConfig("DATA: give either a file of recent sequences or --url of a service")
    predictor = gatewise.load(model)
    reference = predictor.drift_reference()
    if reference is None:
        raise ArtifactMissing(f"{model} was made without drift statistics. {NO_STATISTICS}")
    found = fetch(url, predictor) if url else _drift_of(predictor, reference, data or "", flags)
    if found.measures:
        print_table(drift_table(reference, found, predictor.manifest.labels))
    click.echo(f"{found.state}: {found.sequences} sequences against {reference_of(predictor)}")
    if json_file:
        fields = {**found.model_dump(), "model": predictor.manifest.name, "version": predictor.version}
        fields["reference"] = reference.model_dump()["histograms"]
        Path(json_file).write_bytes(orjson.dumps(fields, option=orjson.OPT_INDENT_2))
    if found.state == "major":
        again = f"gatewise train {predictor.manifest.data.get('source', 'DATA')} with recent rows"
        click.echo(f"{worst(found)} moved most; whether the answers are worse is for labels to tell")
        click.echo(f"Next:    gatewise evaluate {model} LABELLED_FILE      or: {again}")


def _drift_of(predictor: Predictor, reference: DriftReference, data: str, flags: dict[str, Any]) -> Drift:
    """Count every sequence of a file, a piece at a time."""
    from gatewise.drift import NOTHING_SEEN, Observer
    from training.answers import refused

    observer, sequences = Observer(predictor), 0
    counts: Any = 0.0
    with row_progress("counting") as progress:
        for piece in stream_as_trained(predictor, data, flags, labelled=False):
            observations = []
            for i, result in enumerate(predictor.run_each(piece.items)):
                if isinstance(result, InvalidSequence):
                    raise refused(piece, i, result)
                observations.append(observer.observe(*result))
            counts, sequences = counts + reference.count(observations), sequences + len(observations)
            progress(sequences)
    return reference.compare(counts, sequences) if sequences else NOTHING_SEEN
