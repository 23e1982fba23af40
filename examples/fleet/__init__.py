"""A research fleet: one coordinator and three specialists, each a process of its own.

The engines (`papers`, `fx`, `metar`, `weather`) know nothing of networks: they take a question
as a dictionary and give an answer as a dictionary. `specialist` puts an engine on the network,
`coordinator` finds the specialists by what they can do and asks them, `run` starts it all.
"""
