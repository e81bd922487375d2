"""GPU jobs: what is asked for, in which state it is, whose turn it is, and what ends it. Pure."""
