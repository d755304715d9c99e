import pytest
import web_world


@pytest.fixture
def client(tmp_path):
    with web_world.service(tmp_path) as opened:
        yield opened
