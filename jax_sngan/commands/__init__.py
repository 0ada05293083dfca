"""The commands: each file reads one command's line and calls the package."""
