"""Training quantised networks with additive noise annealing. This package, unlike the rest of anabook, needs torch."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "anabook.training needs torch: pip install 'anabook[training]' (or pip install torch).", name="torch"
    ) from None

from anabook.training.convert import (
    ACTIVATIONS,
    Layer,
    calibrate,
    deploy,
    float_state_dict,
    initialise_near_thresholds,
    layers,
    quantise,
    quantised_weights,
    set_noise,
    shift_by_mean,
)
from anabook.training.loop import Epoch, Score, evaluate, fit, history_table, recalibrate
from anabook.training.modules import Quantise
from anabook.training.places import PerCall, Scaled
from anabook.training.report import Operation, Report, report
from anabook.training.stopping import Stopper, Stopping

__all__ = [
    "ACTIVATIONS",
    "Epoch",
    "Layer",
    "Operation",
    "PerCall",
    "Quantise",
    "Report",
    "Scaled",
    "Score",
    "Stopper",
    "Stopping",
    "calibrate",
    "deploy",
    "evaluate",
    "fit",
    "float_state_dict",
    "history_table",
    "initialise_near_thresholds",
    "layers",
    "quantise",
    "quantised_weights",
    "recalibrate",
    "report",
    "set_noise",
    "shift_by_mean",
]
