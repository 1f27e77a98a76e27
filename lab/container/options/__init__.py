"""The texts of docker's flags -> typed parts of a container's configuration, one file per subject; pure.

What is refused is refused in docker's words, without the name of the flag: the command line knows that.
"""
