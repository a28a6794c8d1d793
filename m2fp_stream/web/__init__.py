"""All that is asked of us by HTTP, behind one gate: the page, and the stream for players."""
