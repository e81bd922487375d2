"""Demand gates: when a batch tenant is scaled from 0 to 1, and when back."""
