"""`python -m training` is `gatewise train`, and `python -m training retrain` is `gatewise retrain`, for a scheduler."""

from gatewise.cli import train_main

if __name__ == "__main__":
    train_main()
