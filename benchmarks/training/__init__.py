"""How fast the documented network trains, beside Keras, plain PyTorch and Ludwig, and how fast texts are loaded."""
