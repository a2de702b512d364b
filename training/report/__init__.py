"""What a training job tells of its model: a page for people, figures for programs, and a model card."""
