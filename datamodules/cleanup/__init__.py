"""Clean-up of weak labels: sentences attached to boxes that they do not speak of."""
