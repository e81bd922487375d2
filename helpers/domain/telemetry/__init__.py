"""What is measured, whose it is, and how it is exposed."""
