import re

import adapruner_det


def test_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+", adapruner_det.__version__)
