"""What the commands show: pure builders and renderings, from rows and columns to text."""
