"""What deep CNNs learn about facial emotion, and why they confuse one emotion with another."""
