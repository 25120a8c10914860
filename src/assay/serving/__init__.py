"""Our models for others: wire formats over one scoring call, a page for people, and functions for peers."""
