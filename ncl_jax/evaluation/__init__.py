"""What a frozen encoder has learned: features, kNN and linear probes, cue conflict, corruptions, domain shift."""
