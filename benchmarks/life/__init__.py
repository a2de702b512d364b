"""A week of life: a model that learns from its feedback each day, beside the same one that is never trained again."""
