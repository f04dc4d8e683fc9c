"""What each installation has for itself: its topic prefix stands before every name that another one could have too.

    topics, Redis keys   <prefix>transactions, …       schemas.topics, features.position
    consumer group       <prefix>fraud-scorer
    bundles              .local/<prefix>bundles, and in it the link `current`
    registered model     <prefix>fraud-scorer, with its aliases; the experiment likewise
    runs for MLflow      .local/mlflow/<prefix>pending
    archive              .local/<prefix>archive
    parameters found     .local/<prefix>tuning
    servers of its own   .local/<prefix>stack          deploy.local

These are defaults: whoever sets one of them to another's shares it on purpose.

>>> bundles("bank-").as_posix(), group("bank-"), group("")
('.local/bank-bundles', 'bank-fraud-scorer', 'fraud-scorer')
"""

from __future__ import annotations

from pathlib import Path

LOCAL = Path(".local")
_NAME = "fraud-scorer"


def group(prefix: str) -> str:
    """The workers' consumer group, and before `-explainer` the explainers'."""
    return f"{prefix}{_NAME}"


def model(prefix: str) -> str:
    """The registered model, and the experiment that its runs are told to."""
    return f"{prefix}{_NAME}"


def bundles(prefix: str) -> Path:
    """The folder of bundles, with the link `current` that workers begin with."""
    return LOCAL / f"{prefix}bundles"


def bundle(prefix: str) -> str:
    """The link that workers begin with."""
    return (bundles(prefix) / "current").as_posix()


def pending(prefix: str) -> Path:
    """Where runs wait for MLflow: told by another installation they would become versions of its model."""
    return LOCAL / "mlflow" / f"{prefix}pending"


def tuning(prefix: str) -> Path:
    """Searches for parameters, and what they found."""
    return LOCAL / f"{prefix}tuning"


def archive(prefix: str) -> str:
    """The topics as tables."""
    return (LOCAL / f"{prefix}archive").as_posix()


def servers(prefix: str) -> Path:
    """Where `make up` keeps this installation's Kafka and Redis."""
    return LOCAL / f"{prefix}stack"
