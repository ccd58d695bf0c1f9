"""Read models, a module for each screen: from records to what the screen says.

Pure functions; all arithmetic with times is in here.
"""
