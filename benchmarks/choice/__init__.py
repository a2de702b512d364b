"""Whether choosing between LSTM and GRU by evidence pays."""
