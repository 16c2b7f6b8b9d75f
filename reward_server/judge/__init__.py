"""The LLM judge: what it is asked, what of a hostile completion reaches it, and what its answer means."""
