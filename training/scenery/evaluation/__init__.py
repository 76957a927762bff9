"""How good a model of scenery is: a feature network, distances, agreement with the prompt."""
