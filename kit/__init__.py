"""Training and inference, measured: the front door of the kit."""

__version__ = "0.1.0"
