"""Turn a training checkpoint into a Hugging Face folder.

python3 training_scripts/model_merger.py --local_dir outputs/tiny_cpu/checkpoints/global_step_40
"""

import sys
from pathlib import Path

# Found even without the environment, to say what is missing.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seg_zero.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["merge", *sys.argv[1:]]))
