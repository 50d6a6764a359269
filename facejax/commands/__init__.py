"""The commands of `facejax`, a file each: `add` describes one to the parser and sets what runs.

Nothing heavy is imported before a command that wants it runs.
"""
