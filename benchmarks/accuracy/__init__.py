"""How well Gatewise's default recipe classifies real data, beside the field's simple, strong methods."""
