"""The contract between trainers and reward servers, and the code generated from it."""
