"""The vocabulary every room shares. Standard library only."""
