"""Rules on Terraform plans: what a plan of the stacks must never do, whoever wrote the change."""
