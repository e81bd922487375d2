"""Lanes: which queue in front of a card may run now."""
