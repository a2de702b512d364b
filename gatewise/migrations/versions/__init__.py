"""One file for each revision; its name begins with its number."""
