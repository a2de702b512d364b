"""The commands of `gatewise`, by idea; `gatewise.cli` alone imports them."""
