"""A search for better settings at the same cost: trials from a file, each as long as its share of the base's time."""
