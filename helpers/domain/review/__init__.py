"""What a change of an estate does before it lands: numbers, places, restarts, order, and a verdict. Pure."""
