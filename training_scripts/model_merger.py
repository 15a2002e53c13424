"""Turn a training checkpoint into a Hugging Face folder.

python3 training_scripts/model_merger.py --local_dir outputs/tiny_cpu/checkpoints/global_step_40
"""

import sys

from seg_zero.cli.merge import main
from seg_zero.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
