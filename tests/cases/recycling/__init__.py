"""Cases of the recycling decision: one file a rule; the file's name is the behaviour."""
