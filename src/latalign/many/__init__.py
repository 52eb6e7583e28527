"""More than two spaces: maps of all of them to one shared space, and from any to any through it."""
