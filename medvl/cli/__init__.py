"""The command line: the one part of medvl that may import tasks and datamodules, lazily."""
