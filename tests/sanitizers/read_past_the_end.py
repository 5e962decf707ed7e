"""Ask the kernel for a row that is not there, past the checks; under the sanitizers this must end the process."""

import numpy as np

from nightscore.scoring import kernel as kernel_module
from nightscore.scoring.forest import compile_forest
from nightscore.scoring.kernel import Kernel
from tests.unit.lightgbm_models import train

kernel_module._check_bounds = lambda *_: None
Kernel.of(compile_forest(train("f")), "portable").add_trees([np.zeros(5000)], 0, 5001)
