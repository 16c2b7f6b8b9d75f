"""What engines share whose hosts speak HTTP: chat completions, and how their answers are read."""
