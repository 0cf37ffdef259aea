"""Who performs what a plan asks: with threads, with tasks, or without a server at all."""
