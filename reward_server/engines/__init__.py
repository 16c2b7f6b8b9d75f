"""What a judge's model runs on."""
