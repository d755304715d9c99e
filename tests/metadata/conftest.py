import pytest
from tmdb_server import serving


@pytest.fixture
def server():
    with serving() as served:
        yield served
