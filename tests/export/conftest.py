"""What exported files are made of."""

from tests.exported import _graph_mode, checkpoint, exports  # noqa: F401
