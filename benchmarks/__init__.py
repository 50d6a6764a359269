"""What is timed, each by a command of its own; RESULTS.md has what they printed."""
