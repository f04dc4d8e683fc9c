"""What can go wrong with a training run, told apart by who mends it.

* FraudScorerError
  x UnusablePast    the table can't be learnt from; the message says what would do (exit status 2)
  x NotExportable   the model holds something that the graph can't say exactly: train without it (exit status 2)
  x ParityBroken    graph and learner disagree, a bug of ours: nothing is written (exit status 1)
  x MLflowAway      what it is to be told waits; `training upload` tells it later (exit status 1)
"""

from __future__ import annotations

from schemas.errors import FraudScorerError


class UnusablePast(FraudScorerError):
    """Empty, of one class, too young, or without a column that is needed."""


class NotExportable(FraudScorerError):
    """Categorical splits, several classes, linear leaves: what no exact graph is written for."""


class ParityBroken(FraudScorerError):
    """The graph's margins are not the learner's."""


class MLflowAway(FraudScorerError):
    """MLflow, its database or its artifact store did not answer, or not as they should."""
