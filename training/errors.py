"""What can go wrong with a training run, told apart by who mends it.

* FraudScorerError
  x UnusablePast    the table can't be learnt from; the message says what would do (exit status 2)
    + TooFew        it can't be judged by either: its new rows say too little
  x NotExportable   the model holds something that the graph can't say exactly: train without it (exit status 2)
  x ParityBroken    graph and learner disagree, a bug of ours: nothing is written (exit status 1)
  x MLflowAway      what it is to be told waits; `training upload` tells it later (exit status 1)
  x Refused         gates were not passed, or there is nothing to be done: nothing was changed (exit status 1)
  x ClusterLost     a process of the Dask cluster ended, nothing is written: run it again (exit status 2)
"""

from __future__ import annotations

from schemas.errors import FraudScorerError


class UnusablePast(FraudScorerError):
    """Empty, of one class, too young, or without a column that is needed."""


class TooFew(UnusablePast):
    """Too few rows, or frauds among them, that nobody has learnt from."""


class NotExportable(FraudScorerError):
    """Categorical splits, several classes, linear leaves: what no exact graph is written for."""


class ParityBroken(FraudScorerError):
    """The graph's margins are not the learner's."""


class MLflowAway(FraudScorerError):
    """MLflow, its database or its artifact store did not answer, or not as they should."""


class Refused(FraudScorerError):
    """A change of what is deployed, or a verdict to be looked into, that isn't to be had; the message says why."""


class ClusterLost(FraudScorerError):
    """The processes that shared the work do so no longer."""
