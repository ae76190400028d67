"""The commands beyond Lightning's four: each is a function in a file of its own, and a method of the `Trainer`.

The signature of a command is its options, its docstring the help. The first parameter is the trainer; `model` and
`datamodule` are required if they have no default.
"""

__all__: list[str] = []
