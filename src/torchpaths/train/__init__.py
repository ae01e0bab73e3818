"""Training: objective, recipes, loop and run folders."""
