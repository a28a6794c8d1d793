"""The page's server: shows composed pictures in a browser, and takes requests for more privacy."""
