"""What is written to disk, in forms that outlive a version."""
