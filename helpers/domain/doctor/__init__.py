"""What `gpumem doctor` looks for: facts of a cluster in, findings out. Pure."""
