"""``python -m storerec``, which torchrun starts several times."""

from storerec.cli import main

if __name__ == "__main__":
    main()
