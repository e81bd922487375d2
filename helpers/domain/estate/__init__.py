"""What an estate file declares, and what makes it invalid."""
