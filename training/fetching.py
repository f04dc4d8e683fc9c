"""`training fetch`, and `python -m training.fetching`: the same for workers, whose environment has nothing that learns."""

from __future__ import annotations

import typer

from training import ending
from training.options import ArtifactsOption, ModelOption, OutOption, UriOption, WhatArgument
from training.settings import TrainingSettings
from training.tracking import Tracking

DEFAULTS = TrainingSettings()
MLFLOW = Tracking()


def fetch(
    what: WhatArgument,
    out: OutOption = DEFAULTS.out,
    mlflow_uri: UriOption = MLFLOW.uri,
    mlflow_artifacts: ArtifactsOption = MLFLOW.artifacts,
    mlflow_model: ModelOption = MLFLOW.model,
) -> None:
    """Bring a bundle from MLflow to the folder of bundles, whole or not at all, and print its folder.

    Status 1 where MLflow is away, 2 where there is no such bundle or it is broken.  Example: training fetch champion
    """
    from training.registered import fetch_bundle

    tracking = Tracking(uri=mlflow_uri, artifacts=mlflow_artifacts, model=mlflow_model)
    print(fetch_bundle(tracking, what, out))


def main() -> None:
    """The worker's `training fetch`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(fetch)
    ending.run(app)


if __name__ == "__main__":
    main()
