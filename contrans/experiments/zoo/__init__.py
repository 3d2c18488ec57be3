"""What the embedded models show, as figures with bars to meet."""
