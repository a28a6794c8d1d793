"""Types that hold the promises. Needs numpy and the standard library only."""
