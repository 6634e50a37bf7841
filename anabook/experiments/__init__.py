"""The paper's experiments at any size: the design, single runs, sweeps on any executor, recorded results, claims.

`tasks`, `design`, `config`, `records`, `results`, `claims`, `ledger` and `tables` need no torch; `run` does, and `sweep`
leaves it to the processes that train.
"""

from anabook.experiments.config import Config, make
from anabook.experiments.design import Unit, unit, units

__all__ = ["Config", "Unit", "make", "unit", "units"]
