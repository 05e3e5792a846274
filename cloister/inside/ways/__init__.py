"""The ways out that an unprivileged process may try, by subject; standard library only.

Each function that is a kind of `cloister.inside.probe` takes its parameters by name, returns a
`Result`, and raises OSError when something stopped it.
"""
