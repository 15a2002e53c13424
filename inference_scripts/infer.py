"""Answer questions about images: reasoning, boxes, points and masks.

    python inference_scripts/infer.py
    python inference_scripts/infer.py --image_path photo.jpg --text "the cup that is still full"
    python inference_scripts/infer.py --reasoning_model_path Ricky06662/VisionReasoner-7B \
        --segmentation_model_path facebook/sam2-hiera-large --image_path photo.jpg --text "..."
    python inference_scripts/infer.py --image_path photos --questions questions.txt --output_path answers
"""

import sys
from pathlib import Path

# Found even without the environment, to say what is missing.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seg_zero.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
