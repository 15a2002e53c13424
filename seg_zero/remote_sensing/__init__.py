"""Open-vocabulary segmentation of aerial and satellite pictures: the model, its training, its data."""
