"""A ladder of models: a grid of runs, trained and evaluated along the way by this project itself."""
