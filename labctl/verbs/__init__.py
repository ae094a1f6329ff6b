"""What the commands do, as functions: the command line, notebooks and scripts call the same."""
