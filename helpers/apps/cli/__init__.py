"""`gpumem`, the command line."""
