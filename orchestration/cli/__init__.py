"""The command line `nightscore`: one module a group of commands, heavy imports inside the commands.

Results go to stdout (`--json` on every reading command), everything else to stderr.
"""
