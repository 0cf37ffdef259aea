"""The contenders, one library a file."""
