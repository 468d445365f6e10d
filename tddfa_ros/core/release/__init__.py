"""The public 3DDFA_V2 release: its files, their download, and their conversion to a model set."""
