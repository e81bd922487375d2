"""Stand-ins for the two Terraform providers, used only where ``terraform init`` cannot get the real ones.

They never ship (the wheel holds no ``lab``), their version numbers are visibly no release of the real providers,
and every report that rests on them says so.
"""
