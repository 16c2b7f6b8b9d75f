"""What engines that speak HTTP share: a request with a time limit, and how its answer is read."""
