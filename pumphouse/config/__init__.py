"""The configuration: the file, its schema, and what is wrong with it by file and line."""
