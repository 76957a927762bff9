"""Training of consistency models: recipes, data and evaluation. Imports lcm_studio, never the reverse."""
