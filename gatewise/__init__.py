"""Gatewise: small, fast classifiers for text and time series, made of LSTM and GRU gates.

model = gatewise.load("questions:production")
model.predict(["How far is the moon ?"])
"""

__version__ = "0.1.0"
