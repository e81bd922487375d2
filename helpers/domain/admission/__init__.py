"""What admission does to a pod: devices, budgets, framework caps; refusals and warnings, each with its reason."""
