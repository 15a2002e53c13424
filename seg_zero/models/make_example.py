"""Makes the shipped example picture: python -m seg_zero.models.make_example"""

import numpy as np

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.data.synthetic.scenes import make_scene, questions_of
from seg_zero.files import write_image

SEED = 2

if __name__ == "__main__":
    scene = make_scene(np.random.default_rng(SEED), side=448, shapes=5)
    write_image(EXAMPLE_IMAGE, scene.image)
    print([q.text for kind in ("size", "rel", "plural") for q in questions_of(scene, kind)])
