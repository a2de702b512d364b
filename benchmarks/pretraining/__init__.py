"""What unlabelled sequences and word vectors give, with few labels and with many."""
