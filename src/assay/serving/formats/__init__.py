"""The wire formats: each module reads requests of one kind, and writes what its clients expect of the same scores."""
