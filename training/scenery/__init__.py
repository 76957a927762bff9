"""Rendered landscapes with exact captions: the data set the bundled model is trained on."""
