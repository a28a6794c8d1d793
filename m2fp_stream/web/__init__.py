"""The page's server: shows composed pictures in a browser, and takes wishes for more privacy."""
