"""Training quantised networks with additive noise annealing. This package, unlike the rest of anabook, needs torch."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "anabook.training needs torch: pip install 'anabook[training]' (or pip install torch).", name="torch"
    ) from None

from anabook.training.calibrate import calibrate
from anabook.training.certified import Certified, LayerReach, certified
from anabook.training.convert import quantise
from anabook.training.deploy import deploy
from anabook.training.evaluate import evaluate, recalibrate
from anabook.training.fit import fit
from anabook.training.grouping import ACTIVATIONS
from anabook.training.history import Epoch, history_table
from anabook.training.latent import initialise_near_thresholds, shift_by_mean
from anabook.training.layers import Layer, layers, quantised_weights, set_noise
from anabook.training.learned import Learned
from anabook.training.modules import Quantise
from anabook.training.objectives import Score
from anabook.training.places import PerCall, Scaled
from anabook.training.quanta import keep_positive, learned_quanta
from anabook.training.report import Operation, Report, report
from anabook.training.state_dicts import float_state_dict
from anabook.training.stopping import Stopper, Stopping

__all__ = [
    "ACTIVATIONS",
    "Certified",
    "Epoch",
    "Layer",
    "LayerReach",
    "Learned",
    "Operation",
    "PerCall",
    "Quantise",
    "Report",
    "Scaled",
    "Score",
    "Stopper",
    "Stopping",
    "calibrate",
    "certified",
    "deploy",
    "evaluate",
    "fit",
    "float_state_dict",
    "history_table",
    "initialise_near_thresholds",
    "keep_positive",
    "layers",
    "learned_quanta",
    "quantise",
    "quantised_weights",
    "recalibrate",
    "report",
    "set_noise",
    "shift_by_mean",
]
