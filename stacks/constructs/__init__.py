"""What the stacks are made of: one generic resource for objects, one for steps."""
