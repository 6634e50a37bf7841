"""The printer of values, which is copied here from IPython when the site is built."""
