"""The simulated table: scenes, ground truth, and questions about them."""
