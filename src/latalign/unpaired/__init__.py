"""Alignment where no row is known to correspond to another."""
