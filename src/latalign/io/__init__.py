"""Arrays and maps in and out of files."""
