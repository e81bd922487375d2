"""Who is recycled, when, by which steps, and what a record says of it."""
